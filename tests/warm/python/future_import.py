from __future__ import annotations

import sys


def function(x: undefined) -> also_undefined:
    return x


print(function.__annotations__, compile("x: y = 1", "f", "exec").co_flags & 0x1000000)
print(eval("sys._getframe().f_code.co_flags & 0x1000000"))
