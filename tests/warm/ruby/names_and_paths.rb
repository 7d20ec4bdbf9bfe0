p $0, __FILE__, __dir__, $PROGRAM_NAME, __method__, ARGV, $*, self
p $LOADED_FEATURES, $LOAD_PATH, caller, caller_locations(0).map(&:absolute_path)
p RUBY_VERSION, Process.argv0, Dir.pwd
