import gc

print(gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.callbacks, gc.garbage, gc.get_debug())
print(gc.collect() >= 0)
files = {thing.__code__.co_filename for thing in gc.get_objects() if type(thing).__name__ == "function"}
print(sorted(file for file in files if file[0] == "/"))
