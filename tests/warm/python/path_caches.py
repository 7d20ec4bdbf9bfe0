import sys

print([(path, type(finder).__name__) for path, finder in sys.path_importer_cache.items()])
print(sys.path_hooks[0], len(sys.path_hooks), [getattr(finder, "__name__", type(finder)) for finder in sys.meta_path])
