"""The book's own machinery: chapters, results, figures, exercises. Not needed for a model of your own."""
