DATA.each_line { |line| p line, $. }
p DATA.pos
__END__
one
two
