"""Every downstream task that glyphs allow, on two trained towers: retrieval, classes, probes, arithmetic, search."""
