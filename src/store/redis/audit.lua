-- Adds lines to the audit log if its chain still ends where they begin. Mirrors `RedisAuditLog::append`.
-- KEYS: 1 the stream of lines, 2 the end of their chain.
-- ARGV: 1 the expected end, empty if there is none; 2 the end after the lines; 3 the maximum number of lines that are
-- kept; 4 and following: the lines.
-- Returns the end before; the lines were added if it is the expected one.
local last = redis.call('GET', KEYS[2]) or ''
if last == ARGV[1] then
  for i = 4, #ARGV do
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'line', ARGV[i])
  end
  redis.call('SET', KEYS[2], ARGV[2])
end
return last
