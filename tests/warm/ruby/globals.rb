puts global_variables.sort.map { |name| name.to_s }.join(' ')
p $!, $?, $~, $_, $,, $/, $;, $., $stdin.lineno, $-w, $VERBOSE, $DEBUG, $-i, $-l, $-p, $-a
p local_variables, Object.constants.sort.size, Object.private_instance_methods(false).sort, self.class.instance_methods(false)
p Object.constants.sort, binding.local_variables, TOPLEVEL_BINDING.local_variables
