# Counts a log in two passes over the same file: the first decides its kind, the second reads it.
# Plain POSIX awk: no intervals in expressions, no sorting functions, no third argument of match().

function hex_run(n,    i, s) { s = ""; for (i = 0; i < n; i++) s = s "[0-9a-fA-F]"; return s }
function two(n) { return n < 10 ? "0" n : "" n }

function is_access(line) {
  return line ~ /^[^ ]+ [^ ]+ .*\[[0-9][0-9]\/[A-Z][a-z][a-z]\/[0-9][0-9][0-9][0-9]:[0-9][0-9]:[0-9][0-9]:[0-9][0-9] [-+][0-9]+\] "/
}

# Ranks keys by count, then by name, or by name alone, with a heap sort: order[1..n] ends up best first.
function before(a, b, counts) {
  if (by_key) return a < b
  return counts[a] > counts[b] || (counts[a] == counts[b] && a < b)
}
function sift(order, counts, root, n,    child, held) {
  while ((child = 2 * root) <= n) {
    if (child < n && before(order[child], order[child + 1], counts)) child++
    if (!before(order[root], order[child], counts)) return
    held = order[root]; order[root] = order[child]; order[child] = held
    root = child
  }
}
function rank(counts, order,    key, n, i, held) {
  split("", order)
  n = 0
  for (key in counts) order[++n] = key ""
  for (i = int(n / 2); i >= 1; i--) sift(order, counts, i, n)
  for (i = n; i > 1; i--) {
    held = order[1]; order[1] = order[i]; order[i] = held
    sift(order, counts, 1, i - 1)
  }
  return n
}

# Turns seconds since 1970 into an hour, after the algorithm of Howard Hinnant for civil dates.
function hour_of_epoch(seconds,    days, era, doe, yoe, doy, mp, day, month, year) {
  days = int(seconds / 86400) + 719468
  era = int(days / 146097)
  doe = days - era * 146097
  yoe = int((doe - int(doe / 1460) + int(doe / 36524) - int(doe / 146096)) / 365)
  doy = doe - (365 * yoe + int(yoe / 4) - int(yoe / 100))
  mp = int((5 * doy + 2) / 153)
  day = doy - int((153 * mp + 2) / 5) + 1
  month = mp < 10 ? mp + 3 : mp - 9
  year = yoe + era * 400 + (month <= 2)
  return year "-" two(month) "-" two(day) " " two(int(seconds % 86400 / 3600)) ":00"
}
function hour_of(text) {
  if (match(text, /[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][T ][0-9][0-9]:/))
    return substr(text, RSTART, 10) " " substr(text, RSTART + 11, 2) ":00"
  if (text ~ /^[0-9]+(\.[0-9]+)?$/ && length(text) >= 10)
    return hour_of_epoch(int(text + 0 >= 100000000000 ? text / 1000 : text + 0))
  return ""
}

function level_of(text) {
  text = toupper(text)
  if (text in level_names) return level_names[text]
  return ""
}
function normalise(text) {
  gsub(uuid, "#", text)
  gsub(/0[xX][0-9a-fA-F]+/, "#", text)
  gsub(/[0-9]+/, "#", text)
  gsub(/[ \t]+/, " ", text)
  sub(/^ /, "", text)
  sub(/ $/, "", text)
  return text
}

function record(group, hour, is_error) {
  lines++
  current = group
  groups[group]++
  if (hour != "") {
    hours[hour]++
    if (is_error) hour_errors[hour]++
    if (first == "" || hour < first) first = hour
    if (last == "" || hour > last) last = hour
  }
  if (is_error) errors++
  keep(group)
}
function keep(group) {
  if (split_to != "") print $0 > (split_to "/" tolower(group) ".log")
}
function unparsed_line() { unparsed++; keep("unparsed") }

function read_access(line,    client, stamp, rest, request, parts, path, status, n) {
  if (!is_access(line)) return 0
  client = substr(line, 1, index(line, " ") - 1)
  match(line, /\[[0-9][0-9]\/[A-Z][a-z][a-z]\/[0-9][0-9][0-9][0-9]:[0-9][0-9]:/)
  stamp = substr(line, RSTART + 1, 14)
  rest = substr(line, RSTART)
  rest = substr(rest, index(rest, "] \"") + 3)
  if (!match(rest, /^([^"\\]|\\.)*" [1-5][0-9][0-9]( |$)/)) return 0
  request = substr(rest, 1, RLENGTH)
  match(request, /" [1-5][0-9][0-9] ?$/)
  status = substr(request, RSTART + 2, 3)
  request = substr(request, 1, RSTART - 1)
  n = split(request, parts, " ")
  path = n >= 2 ? parts[2] : (request == "" ? "-" : request)
  if (!keep_query) sub(/\?.*/, "", path)
  clients[client]++
  paths[path]++
  statuses[status]++
  record(substr(status, 1, 1) "xx", substr(stamp, 8, 4) "-" two(months[substr(stamp, 4, 3)] + 0) "-" substr(stamp, 1, 2) " " substr(stamp, 13, 2) ":00", status >= 500)
  return 1
}

# Reads the first level of a JSON object into fields[]; nested values are skipped. False when the line is cut off.
function read_object(line, fields,    depth, token, key, wants_value) {
  split("", fields)
  depth = 0; key = ""; wants_value = 0
  while (line != "") {
    if (match(line, /^[ \t,\r]+/)) { line = substr(line, RLENGTH + 1); continue }
    if (match(line, /^"([^"\\]|\\.)*"/)) token = substr(line, 1, RLENGTH)
    else if (match(line, /^[][{}:]/)) token = substr(line, 1, 1)
    else if (match(line, /^[^][{}:," \t\r]+/)) token = substr(line, 1, RLENGTH)
    else return 0
    line = substr(line, length(token) + 1)
    if (token == "{" || token == "[") { depth++; if (depth > 1) wants_value = 0 }
    else if (token == "}" || token == "]") { depth--; if (depth == 0) return line ~ /^[ \t\r]*$/ }
    else if (depth == 1 && token == ":") wants_value = 1
    else if (depth == 1 && wants_value) { fields[key] = unquote(token); wants_value = 0 }
    else if (depth == 1) key = unquote(token)
  }
  return 0
}
function unquote(token,    out, at) {
  if (substr(token, 1, 1) != "\"") return token
  token = substr(token, 2, length(token) - 2)
  out = ""
  while (at = index(token, "\\")) {
    out = out substr(token, 1, at - 1)
    if (substr(token, at + 1, 1) ~ /[nrtbf]/) out = out " "
    else if (substr(token, at + 1, 1) == "u") out = out "\\u"
    else out = out substr(token, at + 1, 1)
    token = substr(token, at + 2)
  }
  return out token
}
function pick(fields, names,    list, n, i) {
  n = split(names, list, " ")
  for (i = 1; i <= n; i++) if (list[i] in fields) return fields[list[i]]
  return ""
}
function leveled(level, hour, message) {
  record(level, hour, level == "ERROR" || level == "FATAL")
  message = normalise(message)
  if (message != "") messages[level "\t" message]++
}
function read_json(line,    fields, level) {
  if (line !~ /^[ \t]*\{/ || !read_object(line, fields)) return 0
  level = level_of(pick(fields, "level severity lvl loglevel levelname log.level"))
  if (level == "") return 0
  leveled(level, hour_of(pick(fields, "time timestamp ts @timestamp date datetime asctime")), pick(fields, "msg message event error"))
  return 1
}
function read_plain(line,    rest, word, bare, level, tokens, message) {
  rest = line
  for (tokens = 0; tokens < 8 && match(rest, /[^ \t]+/); tokens++) {
    word = substr(rest, RSTART, RLENGTH)
    rest = substr(rest, RSTART + RLENGTH)
    bare = word
    if (bare ~ /^level="?[A-Za-z]+"?$/) { gsub(/^level="?|"$/, "", bare); bare = toupper(bare) }
    else if (match(bare, /^\[[A-Za-z]+\]/)) bare = toupper(substr(bare, 2, RLENGTH - 2))
    else gsub(/^[[(<|]+|[])>:|,-]+$/, "", bare)
    if (bare == toupper(bare) && (level = level_of(bare)) != "" && bare !~ /^[0-9]/) {
      message = rest
      if (match(message, /msg="([^"\\]|\\.)*"/)) message = unquote(substr(message, RSTART + 4, RLENGTH - 4))
      sub(/^[ \t]*[-:|]?[ \t]+/, "", message)
      leveled(level, hour_of(substr(line, 1, 80)), message)
      return 1
    }
  }
  return 0
}

BEGIN {
  split("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec", names, " ")
  for (i = 1; i <= 12; i++) months[names[i]] = i
  n = split("TRACE:TRACE FINEST:TRACE DEBUG:DEBUG FINE:DEBUG INFO:INFO INFORMATION:INFO NOTICE:INFO WARN:WARN WARNING:WARN ERROR:ERROR ERR:ERROR SEVERE:ERROR FATAL:FATAL CRITICAL:FATAL CRIT:FATAL ALERT:FATAL EMERG:FATAL PANIC:FATAL 10:TRACE 20:DEBUG 30:INFO 40:WARN 50:ERROR 60:FATAL", names, " ")
  for (i = 1; i <= n; i++) { split(names[i], pair, ":"); level_names[pair[1]] = pair[2] }
  uuid = hex_run(8) "-" hex_run(4) "-" hex_run(4) "-" hex_run(4) "-" hex_run(12)
  split_to = ENVIRON["LOG_SPLIT"]
  lines = errors = unparsed = continued = by_key = 0
}

FNR == 1 { pass++ }
{ sub(/\r$/, "") }
/^[ \t]*$/ { next }

pass == 1 {
  if (kind != "auto" || ++sampled > 400) next
  if (is_access($0)) votes["access"]++
  else if ($0 ~ /^[ \t]*\{.*\}[ \t]*$/) votes["json"]++
  else votes["plain"]++
  next
}

kind == "auto" {
  # Stack traces fill plain logs, so any other kind wins with a third of the lines.
  kind = "plain"
  if (votes["json"] * 3 >= votes["access"] + votes["json"] + votes["plain"]) kind = "json"
  if (votes["access"] * 3 >= votes["access"] + votes["json"] + votes["plain"] && votes["access"] >= votes["json"]) kind = "access"
}
kind == "access" { if (!read_access($0)) unparsed_line(); next }
kind == "json" { if (!read_json($0)) unparsed_line(); next }
{
  if (read_plain($0)) next
  if (current != "") { continued++; keep(current) }
  else unparsed_line()
}

function percent(part, whole) { return sprintf("%.1f%%", whole ? 100 * part / whole : 0) }
# Awks differ in how they read backslashes in replacements of gsub(), so this uses none.
function replace(text, from, to,    out, at) {
  out = ""
  while (at = index(text, from)) {
    out = out substr(text, 1, at - 1) to
    text = substr(text, at + length(from))
  }
  return out text
}
function escape_cell(text) {
  text = replace(text, "\\", "\\\\")
  text = replace(text, "|", "\\|")
  text = replace(text, "`", "\\`")
  text = replace(text, "](", "]\\(")
  return replace(text, "<", "\\<")
}
function section(title, heading, counts,    order, n, i, limit) {
  n = rank(counts, order)
  if (n == 0) return
  printf "\n### %s\n\n| %s | Lines | Share |\n| --- | ---: | ---: |\n", title, heading
  limit = n < top ? n : top
  for (i = 1; i <= limit; i++) printf "| %s | %d | %s |\n", escape_cell(order[i]), counts[order[i]], percent(counts[order[i]], lines)
}
function markdown(    n, i, order, pair) {
  printf "## Log summary\n\n- **Kind:** %s\n- **Lines:** %d\n", kind, lines
  if (first != "") printf "- **Hours:** %s to %s\n", first, last
  printf "- **Errors:** %d (%s)\n", errors, percent(errors, lines)
  if (kind == "plain") printf "- **Continuation lines:** %d\n", continued
  printf "- **Unparsed lines:** %d\n", unparsed
  by_key = 1
  n = rank(groups, order)
  printf "\n### %s\n\n| %s | Lines | Share |\n| --- | ---: | ---: |\n", (kind == "access" ? "Status classes" : "Levels"), (kind == "access" ? "Class" : "Level")
  for (i = 1; i <= n; i++) printf "| %s | %d | %s |\n", order[i], groups[order[i]], percent(groups[order[i]], lines)
  n = rank(hours, order)
  if (n > 0) {
    printf "\n### Error rate per hour\n\n| Hour | Lines | Errors | Rate |\n| --- | ---: | ---: | ---: |\n"
    for (i = 1; i <= n; i++) printf "| %s | %d | %d | %s |\n", order[i], hours[order[i]], hour_errors[order[i]], percent(hour_errors[order[i]], hours[order[i]])
  }
  by_key = 0
  section("Top paths", "Path", paths)
  section("Top clients", "Client", clients)
  section("Top statuses", "Status", statuses)
  n = rank(messages, order)
  if (n > 0) {
    printf "\n### Top messages\n\n| Level | Message | Lines |\n| --- | --- | ---: |\n"
    for (i = 1; i <= n && i <= top; i++) {
      split(order[i], pair, "\t")
      printf "| %s | %s | %d |\n", pair[1], escape_cell(pair[2]), messages[order[i]]
    }
  }
}

function quote(text) {
  text = replace(text, "\\", "\\\\")
  text = replace(text, "\"", "\\\"")
  text = replace(text, "\t", "\\t")
  gsub(/[\001-\037\177]/, "?", text)
  return "\"" text "\""
}
function json_counts(name, counts, limit,    order, n, i) {
  n = rank(counts, order)
  if (limit && n > limit) n = limit
  printf "  %s: [", quote(name)
  for (i = 1; i <= n; i++) printf "%s\n    { \"name\": %s, \"lines\": %d }", (i > 1 ? "," : ""), quote(order[i]), counts[order[i]]
  printf "%s],\n", (n ? "\n  " : "")
}
function json(    n, i, order, pair) {
  printf "{\n  \"kind\": %s,\n  \"lines\": %d,\n  \"errors\": %d,\n  \"continued\": %d,\n  \"unparsed\": %d,\n", quote(kind), lines, errors, continued, unparsed
  by_key = 1
  json_counts(kind == "access" ? "status_classes" : "levels", groups, 0)
  n = rank(hours, order)
  printf "  \"hours\": ["
  for (i = 1; i <= n; i++) printf "%s\n    { \"hour\": %s, \"lines\": %d, \"errors\": %d }", (i > 1 ? "," : ""), quote(order[i]), hours[order[i]], hour_errors[order[i]]
  printf "%s],\n", (n ? "\n  " : "")
  by_key = 0
  json_counts("paths", paths, top)
  json_counts("clients", clients, top)
  json_counts("statuses", statuses, top)
  n = rank(messages, order)
  if (n > top) n = top + 0
  printf "  \"messages\": ["
  for (i = 1; i <= n; i++) {
    split(order[i], pair, "\t")
    printf "%s\n    { \"level\": %s, \"message\": %s, \"lines\": %d }", (i > 1 ? "," : ""), quote(pair[1]), quote(pair[2]), messages[order[i]]
  }
  printf "%s]\n}\n", (n ? "\n  " : "")
}

END {
  if (lines == 0) exit 4
  if (format == "json") json()
  else markdown()
}
