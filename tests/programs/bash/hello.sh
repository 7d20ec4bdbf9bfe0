echo 'hello from bash'
