# frozen_string_literal: true

p 'text'.frozen?
'text' << 'more'
