File.write(__FILE__, "another\n")
raise 'text'
