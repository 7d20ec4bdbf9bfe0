require 'securerandom'
p SecureRandom.hex
