"""A pretend accelerator: tensors whose numbers lie on the CPU, but which say ``pretend:0`` and fail where CUDA's would.

    pretend_device.start(float64=True)      # once a process, for good: torch knows one such device
    torch.ones(3, device="pretend")

Every operation is computed by the CPU's own kernel, so that what comes out must equal the CPU's to the last digit. What
is refused, as on CUDA: operands on two devices (numbers of shape () on the CPU may stand beside a tensor of the device
where an operation goes element by element, and indices on the CPU may pick from it), writing into a tensor of the CPU,
a generator of the other device, and NumPy. With ``float64=False`` it refuses double precision too, as Apple's mps does.

What it cannot show: real kernels and their rounding, memory, speed, ``autocast`` to half types, several devices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
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


def start(float64: bool = True) -> None:
    """Register the device with torch, and make it what ``device="pretend"`` means from now on."""
    global _has_float64
    _has_float64 = float64
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    # Parameters change their class on their way to the device, so they are exchanged and not filled anew.
    torch.__future__.set_swap_module_params_on_conversion(True)
    _Operations().__enter__()
    _Constructors().__enter__()


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
    schema = operation._schema
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    ours = any(isinstance(one, PretendTensor) for one in tensors)
    to = kwargs.get("device")
    made_here = ours if to is None else _here(to)
    if not ours and not made_here:
        return operation(*args, **kwargs)
    if schema.name not in _COPIES:
        _judge(schema, args, kwargs, tensors, made_here)
    held_args, held_kwargs = tree_map_only(PretendTensor, lambda one: one.held, (args, kwargs))
    if to is not None:
        held_kwargs["device"] = torch.device("cpu") if made_here else to
    if held_kwargs.get("pin_memory"):
        held_kwargs["pin_memory"] = False
    found = operation(*held_args, **held_kwargs)
    written = [argument for argument in schema.arguments if argument.is_write]
    if written:
        return _written(schema, args, kwargs, written, found)
    if schema.name == "aten::_to_copy" and any(found is one for one in held_args):
        found = found.clone()
    return tree_map_only(torch.Tensor, _wrapped, found) if made_here else found


def _wrapped(found: torch.Tensor) -> torch.Tensor:
    return found if isinstance(found, PretendTensor) else PretendTensor(found)


def _written(schema: Any, args: tuple, kwargs: dict[str, Any], written: list[Any], found: Any) -> Any:
    """What an operation that writes into its operands gives back: those operands."""
    outs = [kwargs[argument.name] for argument in written if argument.name in kwargs]
    first = args[0] if not outs else outs[0] if len(outs) == 1 else tuple(outs)
    if isinstance(first, PretendTensor) and first.shape != first.held.shape:
        raise NotImplementedError(f"{schema.name} changes the shape of a tensor in place")
    return None if found is None else first


def _judge(schema: Any, args: tuple, kwargs: dict[str, Any], tensors: list[torch.Tensor], made_here: bool) -> None:
    """Raise ``DeviceError`` for what CUDA refuses."""
    generator = kwargs.get("generator")
    if generator is not None and made_here and generator.device.type != NAME:
        raise DeviceError(f"{schema.name}: expected a generator of the device {NAME}, got {generator.device}")
    foreign = [one for one in tensors if not isinstance(one, PretendTensor)]
    if not foreign or len(foreign) == len(tensors):
        return
    if schema.name in _INDEXING:
        values = [one for one in args[2:3] if isinstance(one, torch.Tensor)]
        allowed = isinstance(args[0], PretendTensor) and all(_may_stand_beside(one) for one in values)
    else:
        strict = any(map(_has_tensor, args)) or any(part in schema.name for part in _STRICT)
        allowed = not strict and all(_may_stand_beside(one) for one in foreign)
        allowed = allowed and not any(args[0] is one and schema.name.endswith("_") for one in foreign)
    if not allowed:
        raise DeviceError(f"{schema.name}: expected all tensors on one device, got {NAME} and cpu")


def _may_stand_beside(one: torch.Tensor) -> bool:
    return isinstance(one, PretendTensor) or one.ndim == 0


def _has_tensor(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and any(isinstance(one, torch.Tensor) for one in given)
