raise SignalException, 'HUP'
