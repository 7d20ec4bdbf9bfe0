p 'text'.frozen?
p __ENCODING__
