"""Comparing two Lightning objects: what their constructors made of them, and what changed since."""

from __future__ import annotations

import functools
import pickle
import types
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tunehook.inject.arguments import items_of
from tunehook.integrations.lightning_record import KEY

Attributes = dict[str, Any]

MANAGED = frozenset(
    {
        "_trainer", "trainer", "_fabric", "_fabric_optimizers", "_device", "_device_mesh", "_current_fx_name",
        "_param_requires_grad_state", "_metric_attributes", "_compiler_ctx",
    }
)  # fmt: skip
"""Attributes that Lightning sets while it runs."""

HPARAMS = frozenset({"_hparams", "_hparams_initial", "_hparams_name", "_log_hyperparams"})
COMPILED = frozenset(
    {
        "forward", "training_step", "validation_step", "test_step", "predict_step", "_compile_kwargs",
        "_is_torch_compile",
    }
)  # fmt: skip
"""Attributes that Lightning and `torch.compile` put on a compiled module."""

Form: TypeAlias = tuple[torch.dtype | None, torch.memory_format | None]
"""The type and the order in memory that a tensor was given, ``None`` where they were left alone."""

_ORDERS = {4: torch.channels_last, 5: torch.channels_last_3d}
_CONTAINERS = frozenset(vars(nn.Module())) - {"training"}
_HOOKS = sorted(name for name in _CONTAINERS if name.endswith("hooks"))
_SIMPLE = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def attributes(made: object) -> Attributes:
    """Everything that a constructor set, but weights and flags, by path.

    Args:
        made: A LightningModule or LightningDataModule.

    Returns:
        Attributes as ``lr`` or ``net.dropout.p``, classes of submodules as ``net.dropout``, hooks as
        ``net._forward_hooks`` and saved hyperparameters as ``hparams.lr``.
    """
    found: Attributes = {f"hparams.{name}": value for name, value in hparams(made).items()}
    if not isinstance(made, nn.Module):
        return found | {name: value for name, value in vars(made).items() if name not in MANAGED | HPARAMS | {KEY}}
    skipped = MANAGED | HPARAMS | _CONTAINERS | {KEY, "training"}
    if vars(made).get("_compiler_ctx") is not None:
        skipped |= COMPILED  # they are carried over
    for path, module in made.named_modules():
        prefix = f"{path}." if path else ""
        if path:
            found[path] = qualified(type(module))
        found |= {prefix + name: value for name, value in vars(module).items() if name not in skipped}
        found |= {prefix + name: hooks for name in _HOOKS if (hooks := _hook_names(module, name))}
        found |= {
            f"{prefix}{name} (a hook)": True for name, weight in vars(module)["_parameters"].items() if _hooked(weight)
        }
    return found


def hparams(made: object) -> Mapping[str, Any]:
    """The saved hyperparameters, read without `hparams`, which would make them."""
    saved = vars(made).get("_hparams", {})
    return dict(dict.items(saved)) if isinstance(saved, dict) else dict(saved)


def _hooked(weight: Tensor | None) -> bool:
    return weight is not None and bool(getattr(weight, "_backward_hooks", None))


def _hook_names(module: nn.Module, name: str) -> list[str]:
    hooks = vars(module).get(name) or {}
    return [_name(hook) for hook in hooks.values()]


def weights(made: object) -> dict[str, Tensor]:
    """Parameters and buffers by name; none for a datamodule."""
    if not isinstance(made, nn.Module):
        return {}
    return {**dict(made.named_parameters(remove_duplicate=False)), **dict(made.named_buffers(remove_duplicate=False))}


def flags(made: object) -> dict[str, bool]:
    """``requires_grad`` of every parameter and ``training`` of every submodule, by path."""
    if not isinstance(made, nn.Module):
        return {}
    grads = {name: tensor.requires_grad for name, tensor in made.named_parameters(remove_duplicate=False)}
    return {**grads, **{f"{name}.training".lstrip("."): module.training for name, module in made.named_modules()}}


def differing(one: Mapping[str, Any], other: Mapping[str, Any], *, deep: bool = False) -> set[str]:
    """Paths whose values differ or that only one of the two has."""
    return {
        path
        for path in one.keys() | other.keys()
        if path not in one or path not in other or not alike(one[path], other[path], deep=deep)
    }


def differing_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> set[str]:
    """Names of tensors that are not equal bit for bit."""
    return {name for name in one.keys() | other.keys() if not _equal_entry(name, one, other)}


def _equal_entry(name: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return name in one and name in other and bit_equal(one[name], other[name])


def differing_shapes(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> set[str]:
    """Names of tensors of another shape, or that only one of the two has."""
    return {name for name in one.keys() | other.keys() if shape_of(one.get(name)) != shape_of(other.get(name))}


def shape_of(tensor: Tensor | None) -> Any:
    """The shape of a tensor, in words where it has none yet."""
    if tensor is None:
        return "missing"
    return "made later" if is_lazy(tensor) else tuple(tensor.shape)


def changed_forms(live: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> dict[str, Form]:
    """What `Module.to` gave tensors after they were made: another type, another order in memory.

    Args:
        live: Tensors by name.
        made: The same as their constructor made them.
    """
    found: dict[str, Form] = {}
    for name in live.keys() & made.keys():
        one, other = live[name], made[name]
        if not (_has_form(one) and _has_form(other)):
            continue
        dtype = None if one.dtype == other.dtype else one.dtype
        order = None if one.shape != other.shape or one.stride() == other.stride() else _order_of(one)
        if dtype or order:
            found[name] = (dtype, order)
    return found


def take_forms(forms: Mapping[str, Form], tensors: Mapping[str, Tensor]) -> None:
    """Give tensors the types and orders of `changed_forms`, as `Module.to` does."""
    for name in forms.keys() & tensors.keys():
        dtype, order = forms[name]
        tensor = tensors[name]
        if dtype is not None:
            tensor.data = tensor.data.to(dtype)
        if order is not None and _ORDERS.get(tensor.dim()) is order:
            tensor.data = tensor.data.to(memory_format=order)


def differing_forms(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> set[str]:
    """Names of tensors of one shape that have another type or order in memory."""
    return {name for name in one.keys() & other.keys()
            if _has_form(one[name]) and _has_form(other[name]) and one[name].shape == other[name].shape
            and (one[name].dtype, one[name].stride()) != (other[name].dtype, other[name].stride())}  # fmt: skip


def _has_form(tensor: Tensor) -> bool:
    return not is_lazy(tensor) and tensor.layout is torch.strided


def _order_of(tensor: Tensor) -> torch.memory_format | None:
    order = _ORDERS.get(tensor.dim())
    return order if order is not None and tensor.is_contiguous(memory_format=order) else None


def bit_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same class of shape, type and bits; on whatever device they lie."""
    if shape_of(one) != shape_of(other) or one.dtype != other.dtype:
        return False
    if is_lazy(one) or one.is_meta or other.is_meta:
        return True
    if one.layout != torch.strided or one.is_quantized:
        return bool(torch.equal(one.detach().cpu().to_dense(), other.detach().cpu().to_dense()))
    one, other = one.detach().cpu(), other.detach().cpu()
    return torch.equal(one, other) or torch.equal(_bytes(one), _bytes(other))  # bytes, for NaN equals NaN here


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def qualified(kind: type) -> str:
    """A class by name, so that classes defined in a function anew are the same."""
    return f"{kind.__module__}.{kind.__qualname__}"


def alike(one: Any, other: Any, *, deep: bool = False, seen: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Whether two attributes hold the same.

    Args:
        one: A value.
        other: Another one.
        deep: Look into objects too; else any two objects of one class are alike. What cannot be looked into (neither
            attributes nor pickle, or it raises) is not alike then.
        seen: Pairs that are being compared, for values that contain themselves.
    """
    if one is other or (id(one), id(other)) in seen:
        return True
    if qualified(type(one)) != qualified(type(other)):
        return False
    try:
        return _same_content(one, other, deep=deep, seen=seen)
    except Exception:  # noqa: BLE001 - code of the values, which may raise anything
        return not deep


def _same_content(one: Any, other: Any, *, deep: bool, seen: frozenset[tuple[int, int]]) -> bool:
    """Whether two values of one class hold the same."""
    if isinstance(one, _SIMPLE):
        return bool(one == other or (one != one and other != other))
    if isinstance(one, Tensor):
        return bit_equal(one, other)
    recurse = functools.partial(alike, deep=deep, seen=seen | {(id(one), id(other))})
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(recurse, one, other))
    if isinstance(one, Mapping):
        ones, others = dict(items_of(one)), dict(items_of(other))
        return (
            bool(one.keys() == other.keys())
            and ones.keys() == others.keys()
            and all(recurse(ones[key], others[key]) for key in ones)
        )
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and (one == other or not deep or _same_pickle(one, other))
    if hasattr(one, "__array__") and hasattr(one, "tobytes"):
        return bool(one.shape == other.shape and (one.dtype == object or one.tobytes() == other.tobytes()))
    if isinstance(one, types.MethodType):
        return _name(one.__func__) == _name(other.__func__) and (
            not deep or bool(recurse(one.__self__, other.__self__))
        )
    return _deep_alike(one, other, recurse) if deep else True


def _name(function: Any) -> str:
    inner = getattr(function, "hook", function)  # torch wraps some hooks, and copies of the wrapper have no name
    return str(getattr(inner, "__qualname__", qualified(type(inner))))


def _deep_alike(one: Any, other: Any, recurse: Any) -> bool:
    if isinstance(one, type | types.ModuleType):
        return str(getattr(one, "__qualname__", one.__name__)) == str(getattr(other, "__qualname__", other.__name__))
    if isinstance(one, torch.Generator):
        return torch.equal(one.get_state(), other.get_state())
    if isinstance(one, functools.partial):
        return all(recurse(getattr(one, name), getattr(other, name)) for name in ("func", "args", "keywords"))
    if isinstance(one, types.FunctionType):
        return one.__code__ == other.__code__ and bool(recurse(_captured(one), _captured(other)))
    if hasattr(one, "__dict__"):
        return bool(recurse({k: v for k, v in vars(one).items() if k not in MANAGED | {KEY}},
                            {k: v for k, v in vars(other).items() if k not in MANAGED | {KEY}}))  # fmt: skip
    return _same_pickle(one, other)


def _captured(function: types.FunctionType) -> list[Any]:
    return [function.__defaults__, function.__kwdefaults__, [_content(cell) for cell in function.__closure__ or ()]]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a cell that is not filled yet
        return None


def _same_pickle(one: Any, other: Any) -> bool:
    try:
        return pickle.dumps(one) == pickle.dumps(other)
    except Exception:  # noqa: BLE001 - pickling runs code of the value, which may raise anything
        return False
