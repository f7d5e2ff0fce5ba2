-- Adds a sidecar's batch to the sums of one period, unless it was added before.
-- Called by `add` in sums.rs. Sums are texts such as `a12b3T54000`: lower-case letters are added; for capitals the
-- largest number is kept. A caller has several sums, each after its name and `=`, separated by spaces.
--
-- KEYS[1]  the number of each sidecar's last batch
-- KEYS[2+] the tables of the period: hashes
-- ARGV[1]  the sidecar
-- ARGV[2]  the number of the batch
-- ARGV[3]  retention of a table from its first addition on, in milliseconds
-- ARGV[4]  maximum number of callers in a table
-- ARGV[5]  callers that a full table keeps, if it keeps the busiest
-- ARGV[6+] five for each addition: what to do, the index of its table in KEYS, that of a second table or 0, the field, the
--          sums. What to do: `set` the field, `add` to it, add to it where it is or else in the second table if the first
--          one is full (`spill`), or add to it and then move all but the busiest callers to the second table, by the names
--          of their sums, if the first one is full (`fold`)
--
-- Reply    0: the batch was added before; 1: it was added; 2: it was added, and it is the sidecar's first one here

-- Maximum of a sum, which is exact in Lua.
local MAX = 9007199254740992

local function merge(old, new)
  local order, rows = {}, {}
  local function read(text)
    for name, sums in string.gmatch(text, '([^ =]*)=([^ ]*)') do
      local row = rows[name]
      if not row then
        row = {}
        rows[name] = row
        order[#order + 1] = name
      end
      for letter, digits in string.gmatch(sums, '(%a)(%d+)') do
        local number = tonumber(digits)
        local before = row[letter]
        if not before then
          row[letter] = number
          row[#row + 1] = letter
        elseif string.byte(letter) < 97 then
          row[letter] = math.max(before, number)
        else
          row[letter] = math.min(before + number, MAX)
        end
      end
    end
  end
  read(old)
  read(new)
  for index, name in ipairs(order) do
    local row = rows[name]
    local parts = { name, '=' }
    for _, letter in ipairs(row) do
      parts[#parts + 1] = letter
      parts[#parts + 1] = string.format('%.0f', row[letter])
    end
    order[index] = table.concat(parts)
  end
  return table.concat(order, ' ')
end

local function add(key, field, sums)
  local old = redis.call('HGET', key, field)
  redis.call('HSET', key, field, old and merge(old, sums) or sums)
end

local function fold(key, others, kept)
  local all = redis.call('HGETALL', key)
  local callers = {}
  for index = 1, #all, 2 do
    local weight = 0
    for digits in string.gmatch(all[index + 1], '=a(%d+)') do
      weight = weight + tonumber(digits)
    end
    callers[#callers + 1] = { name = all[index], sums = all[index + 1], weight = weight }
  end
  table.sort(callers, function(one, other)
    if one.weight ~= other.weight then
      return one.weight > other.weight
    end
    return one.name < other.name
  end)
  for index = kept + 1, #callers do
    redis.call('HDEL', key, callers[index].name)
    for name, sums in string.gmatch(callers[index].sums, '([^ =]*)=([^ ]*)') do
      add(others, name, '=' .. sums)
    end
  end
end

local last = redis.call('HGET', KEYS[1], ARGV[1])
if last and tonumber(ARGV[2]) <= tonumber(last) then
  return 0
end
-- First, so that a batch that an error interrupts is not added twice.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local full, kept = tonumber(ARGV[4]), tonumber(ARGV[5])
for index = 6, #ARGV, 5 do
  local what, key, second = ARGV[index], KEYS[tonumber(ARGV[index + 1])], KEYS[tonumber(ARGV[index + 2])]
  local field, sums = ARGV[index + 3], ARGV[index + 4]
  if what == 'set' then
    redis.call('HSET', key, field, sums)
  elseif what == 'spill' and redis.call('HLEN', key) >= full and redis.call('HEXISTS', key, field) == 0 then
    add(second, field, sums)
  else
    add(key, field, sums)
    if what == 'fold' and redis.call('HLEN', key) > full then
      fold(key, second, kept)
    end
  end
end
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) == -1 then
    redis.call('PEXPIRE', key, ARGV[3])
  end
end
return last and 1 or 2
