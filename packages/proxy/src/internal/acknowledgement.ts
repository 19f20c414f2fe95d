/**
 * Tells whether the sender of a request counts on its being acknowledged: then it sends the request again when it hears nothing,
 * which a replica that does not know one request from another would run twice. It lists the event `accepted`, whose name with
 * its quotes can stand in JSON only as a string of its own, so that nothing has to be parsed.
 */

const needle = Buffer.from("\"accepted\"")
const most = needle.length - 1

/** `pieces` are a whole message. */
export const countsOnAcknowledgement = (pieces: ReadonlyArray<Buffer>): boolean => {
  let before: Buffer = Buffer.alloc(0)
  for (const piece of pieces) {
    const seam = Buffer.concat([before, piece.subarray(0, most)])
    if (seam.includes(needle) || piece.includes(needle)) {
      return true
    }
    before = piece.length < most ? seam.subarray(-most) : piece.subarray(-most)
  }
  return false
}
