ENV.each { |name, value| puts "#{name}=#{value}" }
p ENV['UMLAUT'].encoding, ENV['FIRST'].frozen?
system('env')
