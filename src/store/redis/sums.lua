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
-- ARGV[6+] groups of additions to one table: what to do, the index of the table in KEYS, that of a second table or 0, the
--          number of fields, and each field with its sums. A field is at most once in a batch's table. What to do: `set`
--          the fields, `add` to them, add to them where they are or else in the second table if the first one is full
--          (`spill`), or add to them and then move all but the busiest callers to the second table, by the names of their
--          sums, if the first one is full (`fold`)
--
-- Reply    0: the batch was added before; 1: it was added; 2: it was added, and it is the sidecar's first one here

-- Maximum of a sum, which is exact in Lua.
local MAX = 9007199254740992

-- Adds a text to rows of numbers by name. The names are in `rows` in their order, the letters in their row.
local function read(rows, text)
  for name, sums in string.gmatch(text, '([^ =]*)=([^ ]*)') do
    local row = rows[name]
    if not row then
      row = {}
      rows[name] = row
      rows[#rows + 1] = name
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

local function write(row)
  local parts = {}
  for _, letter in ipairs(row) do
    parts[#parts + 1] = letter
    parts[#parts + 1] = string.format('%d', row[letter])
  end
  return table.concat(parts)
end

local function merge(old, new)
  local rows = {}
  read(rows, old)
  read(rows, new)
  local texts = {}
  for index, name in ipairs(rows) do
    texts[index] = name .. '=' .. write(rows[name])
  end
  return table.concat(texts, ' ')
end

-- Writes fields with their sums. A table whose fields are all new may be new, and then begins to expire.
local function store(key, entries)
  if redis.call('HSET', key, unpack(entries)) * 2 == #entries and redis.call('PTTL', key) == -1 then
    redis.call('PEXPIRE', key, ARGV[3])
  end
end

-- Adds to fields where they are. Returns the fields that are not there, with their sums.
local function add_known(key, fields, sums)
  local known, missing = {}, {}
  for index, old in ipairs(redis.call('HMGET', key, unpack(fields))) do
    local list, new = missing, sums[index]
    if old then
      list, new = known, merge(old, new)
    end
    list[#list + 1] = fields[index]
    list[#list + 1] = new
  end
  if known[1] then
    redis.call('HSET', key, unpack(known))
  end
  return missing
end

local function add(key, fields, sums)
  local missing = add_known(key, fields, sums)
  if missing[1] then
    store(key, missing)
  end
end

-- Adds to a first table until it is full, and then to the second one.
local function spill(key, second, fields, sums)
  local missing = add_known(key, fields, sums)
  if not missing[1] then
    return
  end
  local capacity = tonumber(ARGV[4]) - redis.call('HLEN', key)
  local first, more, more_sums = {}, {}, {}
  for index = 1, #missing, 2 do
    if #first < 2 * capacity then
      first[#first + 1] = missing[index]
      first[#first + 1] = missing[index + 1]
    else
      more[#more + 1] = missing[index]
      more_sums[#more_sums + 1] = missing[index + 1]
    end
  end
  if first[1] then
    store(key, first)
  end
  if more[1] then
    add(second, more, more_sums)
  end
end

-- Adds to a table, and moves all but the busiest callers to the others if it is full.
local function fold(key, others, fields, sums)
  add(key, fields, sums)
  if redis.call('HLEN', key) <= tonumber(ARGV[4]) then
    return
  end
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
  local moved, rows = {}, {}
  for index = tonumber(ARGV[5]) + 1, #callers do
    moved[#moved + 1] = callers[index].name
    read(rows, callers[index].sums)
  end
  redis.call('HDEL', key, unpack(moved))
  local texts = {}
  for index, name in ipairs(rows) do
    texts[index] = '=' .. write(rows[name])
  end
  add(others, rows, texts)
end

local last = redis.call('HGET', KEYS[1], ARGV[1])
if last and tonumber(ARGV[2]) <= tonumber(last) then
  return 0
end
-- First, so that a batch that an error interrupts is not added twice.
store(KEYS[1], { ARGV[1], ARGV[2] })
local position = 6
while position < #ARGV do
  local what, key = ARGV[position], KEYS[tonumber(ARGV[position + 1])]
  local second, count = KEYS[tonumber(ARGV[position + 2])], tonumber(ARGV[position + 3])
  local first, fields, sums = position + 4, {}, {}
  position = first + 2 * count
  for index = 1, count do
    fields[index], sums[index] = ARGV[first + 2 * index - 2], ARGV[first + 2 * index - 1]
  end
  if what == 'set' then
    store(key, { unpack(ARGV, first, position - 1) })
  elseif what == 'add' then
    add(key, fields, sums)
  elseif what == 'spill' then
    spill(key, second, fields, sums)
  else
    fold(key, second, fields, sums)
  end
end
return last and 1 or 2
