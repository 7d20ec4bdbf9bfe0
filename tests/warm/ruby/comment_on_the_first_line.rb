# A comment.
p __LINE__
raise 'text'
