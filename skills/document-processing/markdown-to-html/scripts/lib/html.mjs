/** Escaping, character references and the rules for link targets. */

const NAMED = new Map([
  ["amp", "&"],
  ["lt", "<"],
  ["gt", ">"],
  ["quot", "\""],
  ["apos", "'"],
  ["nbsp", "\u00a0"],
  ["colon", ":"],
  ["sol", "/"],
  ["Tab", "\t"],
  ["NewLine", "\n"],
  ["lpar", "("],
  ["rpar", ")"],
  ["num", "#"],
  ["copy", "©"],
  ["reg", "®"],
  ["trade", "™"],
  ["hellip", "…"],
  ["mdash", "—"],
  ["ndash", "–"],
  ["lsquo", "‘"],
  ["rsquo", "’"],
  ["ldquo", "“"],
  ["rdquo", "”"],
  ["laquo", "«"],
  ["raquo", "»"],
  ["bull", "•"],
  ["middot", "·"],
  ["times", "×"],
  ["deg", "°"],
  ["plusmn", "±"],
  ["euro", "€"],
  ["pound", "£"],
  ["yen", "¥"],
  ["sect", "§"],
  ["para", "¶"],
  ["larr", "←"],
  ["rarr", "→"],
  ["check", "✓"],
  ["auml", "ä"],
  ["ouml", "ö"],
  ["uuml", "ü"],
  ["Auml", "Ä"],
  ["Ouml", "Ö"],
  ["Uuml", "Ü"],
  ["szlig", "ß"],
  ["eacute", "é"]
])

const REFERENCE = /^&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));/
const ESCAPABLE = /\\([!-/:-@[-`{-~])/g
const LINK_SCHEMES = new Set(["http", "https", "mailto", "tel", "ftp"])
const IMAGE_SCHEMES = new Set(["http", "https"])
const SAFE_DATA = /^data:image\/(?:png|jpe?g|gif|webp|avif);/i

export const escapeHtml = (text) =>
  text.replace(/[&<>"]/g, (character) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;" })[character])

/** Reads the character reference at the start of `text`, or returns undefined. */
export const readReference = (text) => {
  const match = REFERENCE.exec(text)
  if (match === null) return undefined
  const [raw, decimal, hexadecimal, name] = match
  if (name !== undefined) {
    const value = NAMED.get(name)
    return value === undefined ? undefined : { raw, value }
  }
  const code = decimal !== undefined ? Number.parseInt(decimal, 10) : Number.parseInt(hexadecimal, 16)
  const valid = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff)
  return { raw, value: valid ? String.fromCodePoint(code) : "\ufffd" }
}

/** Resolves backslash escapes and character references, as in link targets and titles. */
export const unescapeText = (text) =>
  text.replace(ESCAPABLE, "$1").replace(/&[#A-Za-z][^;&\s]{0,32};/g, (raw) => readReference(raw)?.value ?? raw)

/** Returns the scheme of a target as a browser reads it, which ignores control characters and blanks. */
const schemeOf = (target) => {
  // oxlint-disable-next-line no-control-regex
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(target.replace(/[\u0000-\u0020\u007f-\u00a0\u2028\u2029]/g, ""))
  return match === null ? undefined : match[1].toLowerCase()
}

export const isSafeLink = (target) => {
  const scheme = schemeOf(target)
  return scheme === undefined || LINK_SCHEMES.has(scheme)
}

export const isSafeImage = (target) => {
  const scheme = schemeOf(target)
  return scheme === undefined || IMAGE_SCHEMES.has(scheme) || SAFE_DATA.test(target)
}

/** Encodes a target for use inside a quoted attribute. */
export const attributeUrl = (target) => {
  const encoded = target.replace(/[^!#$%&'()*+,\-./0-9:;=?@A-Z_a-z~]/gu, (character) => {
    try {
      return encodeURIComponent(character)
    } catch {
      return "%EF%BF%BD"
    }
  })
  return escapeHtml(encoded).replaceAll("'", "&#39;")
}
