p 'text'.hash
