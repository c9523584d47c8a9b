"""A pretend accelerator: tensors whose numbers lie on the CPU, but which say ``pretend:0`` and fail where CUDA's would.

    pretend_device.register()               # once a process, for good: torch knows one such device
    with pretend_device.available(float64=True):
        torch.ones(3, device="pretend")

Every operation is computed by the CPU's own kernel, so that what comes out must be what the CPU gives. What is refused,
as on CUDA: operands on two devices (numbers of shape () on the CPU may stand beside a tensor of the device where an
operation goes element by element, and indices on the CPU may pick from it), writing into a tensor of the CPU, a
generator of the other device, and NumPy. With ``float64=False`` it refuses double precision too, as Apple's mps does.

What it cannot show: real kernels and their rounding, memory, speed, ``autocast`` to half types, several devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
DOUBLE = (torch.float64, torch.complex128)
#: what moves numbers between devices
_COPIES = ("aten::_to_copy", "aten::copy_", "aten::copy")
#: what takes indices from either device
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")
#: what wants all its operands on one device, numbers of shape () too (beside whatever takes lists of tensors)
_STRICT = ("gather", "scatter", "embedding", "convolution", "mm", "index_select", "equal", "take_along")

_has_float64 = True


class DeviceError(RuntimeError):
    """What CUDA would not do."""


class PretendTensor(torch.Tensor):
    """Looks like a tensor of the device; ``held`` is the tensor of the CPU that has its numbers."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> PretendTensor:
        if held.dtype in DOUBLE and not _has_float64:
            raise TypeError(f"the device {NAME} has no {held.dtype}")
        shape, layout = held.size(), {"strides": held.stride(), "storage_offset": held.storage_offset()}
        new = torch.Tensor._make_wrapper_subclass(cls, shape, **layout, dtype=held.dtype, device=device())
        new.held = held
        return new

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _compute(operation, args, kwargs or {})

    def __repr__(self, **options: Any) -> str:
        return f"pretend({self.held!r})"

    def tolist(self) -> list[Any]:
        return self.held.tolist()

    def numpy(self, *args: Any, **options: Any) -> None:
        raise TypeError(f"can't convert a tensor of the device {NAME} to NumPy: copy it to the CPU first")

    __array__ = numpy

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:
        return torch.tensor(data, **{"dtype": dtype or self.dtype, "device": device(), **options})


def device() -> torch.device:
    """The device that tensors say they are on."""
    return torch.device(NAME, 0)


def register() -> None:
    """Tell torch of the device."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())


@contextmanager
def available(float64: bool = True) -> Iterator[None]:
    """Inside, ``device="pretend"`` can be computed on; outside, the CPU is not slowed down by being looked at."""
    global _has_float64
    before = _has_float64, torch.__future__.get_swap_module_params_on_conversion()
    _has_float64 = float64
    # Parameters change their class on their way to the device, so they are exchanged and not filled anew.
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Operations(), _Constructors():
            yield
    finally:
        _has_float64, swap = before
        torch.__future__.set_swap_module_params_on_conversion(swap)


class _Module:
    """``torch.pretend``, as torch asks for it."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def synchronize(self, *device: Any) -> None:
        pass

    def manual_seed_all(self, seed: int) -> None:
        pass

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class _Operations(TorchDispatchMode):
    """Sees operations without a tensor of the device among their operands, such as ``torch.zeros``."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _compute(operation, args, kwargs or {})


class _Constructors(TorchFunctionMode):
    """Makes on the CPU, and moves, what torch builds from Python's numbers without an operation that could be seen."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (torch.tensor, torch.as_tensor, torch.asarray) and _here(kwargs.get("device")):
            wanted = kwargs.get("requires_grad", False)
            rest = {name: value for name, value in kwargs.items() if name not in ("device", "requires_grad")}
            made = args[0] if isinstance(args[0], torch.Tensor) else function(*args, **rest)
            moved = made.to(device(), rest.get("dtype"))
            return moved.requires_grad_() if wanted else moved
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(args[0], PretendTensor):
            args = (args[0], _indices(args[1]), *(_as_tensor(value, args[0].dtype) for value in args[2:]))
        return function(*args, **kwargs)


def _indices(given: Any) -> Any:
    """Lists among indices as tensors, which is what torch makes of them."""
    if isinstance(given, list):
        return torch.tensor(given)
    return tuple(map(_indices, given)) if isinstance(given, tuple) else given


def _as_tensor(value: Any, dtype: torch.dtype) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=dtype)


def _here(where: Any) -> bool:
    return where is not None and torch.device(where).type == NAME


def _compute(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """One operation: judged, computed on the CPU, and its results handed out as the device's."""
    tensors = list(_tensors((args, tuple(kwargs.values()))))
    to = kwargs.get("device")
    made_here = any(isinstance(one, PretendTensor) for one in tensors) if to is None else _here(to)
    if not made_here and not any(isinstance(one, PretendTensor) for one in tensors):
        return operation(*args, **kwargs)
    name, written = _facts(operation)
    if name not in _COPIES:
        _judge(name, args, kwargs, tensors, made_here)
    held_args, held_kwargs = _mapped(_held, args), {key: _mapped(_held, value) for key, value in kwargs.items()}
    if to is not None:
        held_kwargs["device"] = torch.device("cpu") if made_here else to
    if held_kwargs.get("pin_memory"):
        held_kwargs["pin_memory"] = False
    found = operation(*held_args, **held_kwargs)
    if written:
        return _written(name, args, kwargs, written, found)
    if name == "aten::_to_copy" and any(found is one for one in held_args):
        found = found.clone()
    return _mapped(_wrapped, found) if made_here else found


@cache
def _facts(operation: Any) -> tuple[str, tuple[str, ...]]:
    """Name of an operation, and the names of the operands that it writes into."""
    schema = operation._schema
    return schema.name, tuple(argument.name for argument in schema.arguments if argument.is_write)


def _tensors(given: Any) -> Iterator[torch.Tensor]:
    for one in given:
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, (list, tuple)):
            yield from _tensors(one)


def _mapped(change: Any, given: Any) -> Any:
    """``change`` of every tensor among operands or results."""
    if isinstance(given, torch.Tensor):
        return change(given)
    return type(given)(_mapped(change, one) for one in given) if isinstance(given, (list, tuple)) else given


def _held(one: torch.Tensor) -> torch.Tensor:
    return one.held if isinstance(one, PretendTensor) else one


def _wrapped(one: torch.Tensor) -> torch.Tensor:
    return one if isinstance(one, PretendTensor) else PretendTensor(one)


def _written(name: str, args: tuple, kwargs: dict[str, Any], written: tuple[str, ...], found: Any) -> Any:
    """What an operation that writes into its operands gives back: those operands."""
    outs = [kwargs[one] for one in written if one in kwargs]
    first = args[0] if not outs else outs[0] if len(outs) == 1 else tuple(outs)
    if isinstance(first, PretendTensor) and first.shape != first.held.shape:
        raise NotImplementedError(f"{name} changes the shape of a tensor in place")
    return None if found is None else first


def _judge(name: str, args: tuple, kwargs: dict[str, Any], tensors: list[torch.Tensor], made_here: bool) -> None:
    """Raise ``DeviceError`` for what CUDA refuses."""
    generator = kwargs.get("generator")
    if generator is not None and made_here and generator.device.type != NAME:
        raise DeviceError(f"{name}: expected a generator of the device {NAME}, got one of {generator.device}")
    foreign = [one for one in tensors if not isinstance(one, PretendTensor)]
    if not foreign or len(foreign) == len(tensors):
        return
    if name in _INDEXING:
        allowed = isinstance(args[0], PretendTensor) and all(map(_may_stand_beside, _tensors(args[2:3])))
    else:
        strict = any(isinstance(one, (list, tuple)) and next(_tensors(one), None) is not None for one in args)
        strict = strict or any(part in name for part in _STRICT)
        into_the_cpu = name.endswith("_") and args[0] is foreign[0]
        allowed = not strict and not into_the_cpu and all(map(_may_stand_beside, foreign))
    if not allowed:
        raise DeviceError(f"{name}: expected all tensors on one device, got {NAME} and cpu")


def _may_stand_beside(one: torch.Tensor) -> bool:
    """Whether a tensor of the CPU, or one of the device, may be an operand of an operation on the device."""
    return isinstance(one, PretendTensor) or one.ndim == 0
