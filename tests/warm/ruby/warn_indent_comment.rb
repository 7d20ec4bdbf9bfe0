# -*- warn_indent: true -*-
def f
  if true
    1
    end
end
p f
