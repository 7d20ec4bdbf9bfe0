class Loud:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("del", self.name, __name__, sorted(globals())[:3])


first = Loud("first")
second = Loud("second")
_private = Loud("private")
cycle = [Loud("cycle")]
cycle.append(cycle)
print("body")
