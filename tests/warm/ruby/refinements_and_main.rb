using(Module.new { refine(String) { def loud = upcase } })
p 'x'.loud
def self.to_s = 'me'
puts self.to_s, self.class
