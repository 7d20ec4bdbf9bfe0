import pickle


class Point:
    def __init__(self, x):
        self.x = x


text = pickle.dumps(Point(3))
print(text)
print(pickle.loads(text).x)
