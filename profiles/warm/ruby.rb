# Boot program of Ruby: the whole start of the interpreter, up to where it parses its program.
#
# The interpreter opens its program before it loads RubyGems, and what `-r` names after that. So an
# empty program is made first, and an interpreter started with it and with this file as a library.
# There this file waits for the job, and has the open file be the real program. It is parsed and run
# by the interpreter's own code, with no frame below it. Whatever can not be done like that, a program
# with another name for one, is left to a plain interpreter that takes this one's place.

if $0 == __FILE__
  interpreter = File.binread('/proc/self/cmdline').split("\0").first
  File.write('main.rb', "\n", mode: 'wx')
  # The pipes go out of the way of the interpreter's own descriptors, which then have the numbers
  # that they always have.
  pipes = { 60 => 3, 61 => 4, 3 => :close, 4 => :close }
  exec([interpreter, interpreter], '-r', __FILE__, '-r', __FILE__, 'main.rb', pipes)
end

# The interpreter calls this for the second `-r`. By then the first has left its mark in the list of
# what is loaded, where it can be taken away; a library could not do that for itself.
def self.require(boot)
  singleton_class.send(:remove_method, :require)
  $LOADED_FEATURES.delete(boot)

  program = 'main.rb'
  opened = ObjectSpace.each_object(File).find { |file| !file.closed? && file.path == program }
  File.unlink(program)

  ready = IO.for_fd(61, 'w')
  ready.syswrite('!')
  ready.close
  pipe = IO.for_fd(60, 'rb')
  job = pipe.read
  pipe.close
  exit!(0) if job.empty?

  count, *strings = job.split("\0", -1)[0...-1]
  arguments = strings.shift(Integer(count, 10))
  environment = strings.map { |variable| variable.split('=', 2) }

  # A first line that names an interpreter was read before this file was loaded, for its options:
  # it must be one without.
  first_line = (File.binread(program, 256) if File.file?(program)).to_s[/\A.*/n]
  without_options = !first_line.start_with?('#!') || first_line.match?(/\A#!\S*(\/|\/env )ruby\r?\z/n)
  interpreter = File.binread('/proc/self/cmdline').split("\0").first
  unless opened && File.readable?(program) && without_options && arguments[0, 2] == [interpreter, program]
    exec(environment.to_h, [arguments[0], arguments[0]], *arguments.drop(1), unsetenv_others: true)
  end

  ENV.clear
  environment.each { |name, value| ENV[name] = value }
  ARGV.replace(arguments.drop(2).map { |argument| argument.force_encoding(Encoding.find('locale')).freeze })
  opened.reopen(program)
end
