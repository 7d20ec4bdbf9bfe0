raise 'crash on purpose'
