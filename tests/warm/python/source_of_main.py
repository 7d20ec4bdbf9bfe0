import inspect
import linecache
import sys


def function():
    """Text."""
    return 1


print(inspect.getsource(function))
print(inspect.getsource(sys.modules["__main__"])[:20])
print(linecache.getline(__file__, 2), sorted(linecache.cache))
print(__loader__.get_source("__main__") == open(__file__).read(), __loader__.get_filename())
