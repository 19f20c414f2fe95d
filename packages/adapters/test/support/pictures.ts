/** Skills that make images that are whole, so that every API would take them. */
import * as Fs from "node:fs"
import * as Path from "node:path"

/** One pixel. */
export const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==",
  "base64"
)

/** Adds a skill that leaves `dot.png`. */
export const addImage = (directory: string, name: string): void => {
  const root = Path.join(directory, "testing", name)
  Fs.mkdirSync(Path.join(root, "scripts"), { recursive: true })
  Fs.writeFileSync(
    Path.join(root, "scripts", "run.sh"),
    `echo ${png.toString("base64")} | base64 -d > dot.png; echo painted\n`
  )
  Fs.writeFileSync(Path.join(root, "SKILL.md"), `---\nname: ${name}\ndescription: Paints a dot.\n---\n`)
}
