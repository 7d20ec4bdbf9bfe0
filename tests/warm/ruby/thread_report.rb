Thread.new { raise 'in a thread' }.tap { |t| t.report_on_exception = false }.join
