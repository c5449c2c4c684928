"""
The gradient constraint: what is unknown asks for another change of the weights than what is known.

Kwon et al., "Backpropagated gradient representations for anomaly detection", 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Constraint(nn.Module):
    """
    Minus the mean cosine of each layer's gradient with its mean over training so far.

    `alpha` is its weight in the loss. The means are buffers: they travel with the network's state.
    """

    def __init__(self, kernels: list[Tensor], alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("count", torch.zeros(()))
        for index, kernel in enumerate(kernels):
            self.register_buffer(f"mean{index}", torch.zeros(kernel.shape))

    def means(self) -> list[Tensor]:
        """Each layer's mean gradient of the training's steps, in the shape of its kernel."""
        return [mean for name, mean in self.named_buffers() if name.startswith("mean")]

    def of_batch(self, loss: Tensor, kernels: list[Tensor]) -> Tensor:
        """The term of a batch, differentiable by the weights once more; 0 at the first step."""
        if not self.get_buffer("count"):
            return torch.zeros(())
        found = torch.autograd.grad(loss, kernels, create_graph=True)
        pairs = zip(self.means(), found, strict=True)
        cosines = [functional.cosine_similarity(m.flatten(), g.flatten(), dim=0) for m, g in pairs]
        return -torch.stack(cosines).mean()

    def learn(self, kernels: list[Tensor]) -> None:
        """Take the gradients of this step's whole loss into the means."""
        count = self.get_buffer("count")
        count += 1
        for mean, kernel in zip(self.means(), kernels, strict=True):
            if kernel.grad is not None:
                mean += (kernel.grad - mean) / count

    def of_each(self, gradients: list[Tensor]) -> Tensor:
        """The term of each crop, (n,), from its gradients as `kernel_gradient` lays them out."""
        cosines = []
        for mean, found in zip(self.means(), gradients, strict=True):
            usual = laid_out(mean / (mean.norm() + 1e-30))
            power = (found * found).sum(dim=(1, 2))
            cosines.append((found * usual).sum(dim=(1, 2)) * torch.rsqrt(power + 1e-20))
        return -torch.stack(cosines).mean(dim=0)


def kernel_gradient(taken: Tensor, error: Tensor) -> Tensor:
    """
    Of a 3 x 3 convolution of stride 1 by its kernel: one per crop, as `laid_out` lays it out.

    `taken` (n, i, h, w) is the layer's input, `error` (n, o, h, w) the gradient by its output. One
    of them, the one with fewer channels, is shifted by the kernel's nine steps.
    """
    if error.shape[1] <= taken.shape[1]:
        return torch.matmul(taken.flatten(2), _shifted(error).flatten(2).mT)
    return torch.matmul(error.flatten(2), _shifted(taken).flatten(2).mT)


def laid_out(kernel: Tensor) -> Tensor:
    """A kernel (o, i, 3, 3) as a matrix: the wider channels by the others and their nine steps."""
    outer, inner = kernel.shape[:2]
    if outer <= inner:
        return kernel.flip(2, 3).transpose(0, 1).reshape(inner, 9 * outer)
    return kernel.reshape(outer, 9 * inner)


def turned(kernel: Tensor) -> Tensor:
    """The kernel of the transposed convolution: a convolution's gradient by its input."""
    return kernel.flip(2, 3).transpose(0, 1)


def _shifted(x: Tensor) -> Tensor:
    """Each channel nine times, a step of the kernel away; one node of a graph instead of ten."""
    channels = x.shape[1]
    steps = torch.eye(9, dtype=x.dtype).reshape(9, 1, 3, 3).repeat(channels, 1, 1, 1)
    return functional.conv2d(x, steps, padding=1, groups=channels)
