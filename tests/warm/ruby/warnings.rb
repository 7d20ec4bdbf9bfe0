p Warning[:deprecated], $VERBOSE
warn 'text'
warn 'with a place', uplevel: 0
X = 1
X = 2
