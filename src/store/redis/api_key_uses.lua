-- Notes the last uses of API keys, unless later ones are known or the API key is gone. Called by `note_uses` in api_keys.rs.
--
-- KEYS[1]  the last uses by id: milliseconds, and the address if it is known
-- KEYS[2+] the records of the API keys
-- ARGV     the id, the milliseconds and the address of each, in the order of KEYS

for index = 2, #KEYS do
  local at = 3 * (index - 2)
  local id, ms, address = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local known = redis.call('HGET', KEYS[1], id)
  local is_later = not known or tonumber(string.match(known, '^%d+') or 0) < tonumber(ms)
  if is_later and redis.call('EXISTS', KEYS[index]) == 1 then
    redis.call('HSET', KEYS[1], id, ms .. ' ' .. address)
  end
end
return 0
