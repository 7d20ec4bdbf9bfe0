import dataclasses
import typing


@dataclasses.dataclass
class Point:
    x: int
    y: "int" = 2


print(Point(1), typing.get_type_hints(Point), Point.__module__)
