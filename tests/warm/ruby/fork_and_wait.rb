$stdout.sync = true
pid = fork { puts 'child'; exit 5 }
Process.wait(pid)
p $?.exitstatus, caller
