p RubyVM::InstructionSequence.of(proc {}).path, RubyVM::InstructionSequence.compile_option
p method(:puts).owner, __FILE__.encoding, __FILE__.frozen?, $0.frozen?, __LINE__
