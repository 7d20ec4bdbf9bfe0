at_exit { p $!.class }
at_exit { exit 7 }
raise 'text'
