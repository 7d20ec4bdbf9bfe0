def inner(value)
  Integer(value)
end

def outer
  inner('x')
end

outer
