require_relative 'helper'
fail_now
