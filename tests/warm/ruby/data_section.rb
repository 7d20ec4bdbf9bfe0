p DATA.read, DATA.lineno, DATA.fileno, DATA.path, DATA.external_encoding
DATA.rewind
puts DATA.read
p DATA.stat.nlink, DATA.stat.size, File.identical?(DATA, __FILE__)
__END__
the data ü
