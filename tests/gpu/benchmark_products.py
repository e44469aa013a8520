"""What benchmark.py times of products with narrow weights; PyTorch's are with dense ones."""

import torch
from benchmark_cases import DEVICE, Case, Named, poisoned
from machine import byte_weight, int4_weight


class LinearInt4(Case):
    """1 row by an int4 weight of 3584 inputs and 18944 outputs in groups of 128, and by a dense one"""

    ROWS, INPUTS, OUTPUTS, GROUP = 1, 3584, 18944, 128

    def inputs(self):
        groups = self.OUTPUTS, self.INPUTS // self.GROUP
        x = {"x": self.draw(self.ROWS, self.INPUTS), "values": draw_bytes(256, self.OUTPUTS, self.INPUTS // 2)}
        x |= {"scale": torch.rand(groups, device=DEVICE).half() / 256, "zeros": draw_bytes(16, *groups)}
        steps = torch.stack([x["values"] & 15, x["values"] >> 4], -1).view(*groups, self.GROUP).float()
        numbers = (steps - x["zeros"].unsqueeze(-1)) * x["scale"].float().unsqueeze(-1)
        x["values"].dense = numbers.view(self.OUTPUTS, self.INPUTS).to(self.dtype)
        return x

    def outputs(self, x):
        return [poisoned(self.ROWS, self.OUTPUTS, dtype=self.dtype)]

    def kernel(self, x, out):
        scale = Named(x["scale"], "float16")
        weight = int4_weight(Named(x["values"], "uint8"), scale, Named(x["zeros"], "uint8"))
        self.run("linear_int4", x["x"], weight, None, self.name, self.ROWS, *out)

    def torch(self, x):
        return [x["x"] @ x["values"].dense.T]


class LinearInt4EightRows(LinearInt4):
    """8 rows by the same"""

    ROWS = 8


class LinearInt4ManyRows(LinearInt4):
    """32 rows by the same"""

    ROWS = 32


class LinearInt4SmallGroups(LinearInt4):
    """1 row by the same in groups of 32"""

    GROUP = 32


class LinearFp8(LinearInt4):
    """1 row by an fp8 weight of 3584 inputs and 18944 outputs, and by a dense one"""

    def inputs(self):
        values = draw_bytes(120, self.OUTPUTS, self.INPUTS) | draw_bytes(2, self.OUTPUTS, self.INPUTS) << 7
        scale = torch.rand(self.OUTPUTS, device=DEVICE).half() / 4096
        numbers = values.view(torch.float8_e4m3fn).float() * scale.float().unsqueeze(-1)
        values.dense = numbers.to(self.dtype)
        return {"x": self.draw(self.ROWS, self.INPUTS), "values": values, "scale": scale}

    def kernel(self, x, out):
        weight = byte_weight(Named(x["values"], "uint8"), Named(x["scale"], "float16"))
        self.run("linear_fp8", x["x"], weight, None, self.name, self.ROWS, *out)


def draw_bytes(end: int, *shape):
    return torch.randint(0, end, shape, device=DEVICE, dtype=torch.uint8)


PRODUCTS = [LinearInt4, LinearInt4EightRows, LinearInt4ManyRows, LinearInt4SmallGroups, LinearFp8]
