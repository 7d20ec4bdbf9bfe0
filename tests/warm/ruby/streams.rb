[$stdin, $stdout, $stderr].each do |stream|
  p stream.fileno, stream.sync, stream.tty?, stream.external_encoding, stream.internal_encoding, stream.inspect
end
p Encoding.default_external, Encoding.default_internal, Encoding.find('locale'), Encoding.find('filesystem')
