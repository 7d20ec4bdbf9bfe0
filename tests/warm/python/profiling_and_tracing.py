import sys

print(sys.gettrace(), sys.getprofile())
seen = []
sys.setprofile(lambda frame, event, argument: seen.append((frame.f_code.co_name, event)))
len("x")
sys.setprofile(None)
print(seen)
