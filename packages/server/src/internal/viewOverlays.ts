/**
 * Views that are overlays at the skill's own path: the inputs are put into a folder of their own, the executor and the
 * skill's folder do the rest.
 */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as ViewArtifacts from "./viewArtifacts.ts"
import * as ViewFiles from "./viewFiles.ts"
import type { Homes } from "./viewHomes.ts"
import * as ViewInputs from "./viewInputs.ts"

type Skill = Pick<SkillDiscovery.Skill, "root" | "files">

const digestOf = ({ files, root }: Skill): Effect.Effect<string, ViewFiles.Failed> =>
  Effect.map(
    Effect.forEach(files, ({ path }) =>
      Effect.map(
        Effect.tryPromise({
          try: () => ViewFiles.hashFile(Path.join(root, path)),
          catch: (cause) => new ViewFiles.Failed({ path, cause: new ViewFiles.SourceError(cause) })
        }),
        (sha256) => ({ path, sha256 })
      )),
    SkillDiscovery.digest
  )

/** How many folders with links are kept for later calls; more are made for one call each. */
const maxLasting = 64

interface Inputs {
  readonly home: string | undefined
  readonly placed: ReadonlyMap<string, ViewFiles.Placed>
  readonly lasting: boolean
}

export const make = (homes: Homes, limits: ViewArtifacts.Limits) => {
  // Homes with nothing but links to what is installed, by these: the same for all calls of a skill.
  const lasting = new Map<string, Inputs & { readonly home: string }>()

  const makeInputs = Effect.fnUntraced(function*(
    files: Readonly<Record<string, Uint8Array>>,
    links: Readonly<Record<string, string>>
  ) {
    const paths = [...Object.keys(files), ...Object.keys(links)]
    if (paths.length === 0) return { home: undefined, placed: new Map(), lasting: false } satisfies Inputs
    const key = JSON.stringify(links)
    const isLasting = Object.keys(files).length === 0
    const known = isLasting ? lasting.get(key) : undefined
    // Something that cleans temporary folders may have taken it.
    const isThere = (home: string) => (path: string) =>
      Fs.lstatSync(Path.join(home, path), { throwIfNoEntry: false }) !== undefined
    if (known !== undefined && Object.keys(links).every(isThere(known.home))) return known
    const home = homes.next()
    const stays = isLasting && (known !== undefined || lasting.size < maxLasting)
    if (!stays) yield* Effect.addFinalizer(() => homes.removeLater(home))
    yield* homes.create(home, ViewInputs.foldersOf(paths))
    const made = { home, placed: yield* ViewInputs.place(home, files, links), lasting: stays }
    if (stays) lasting.set(key, made)
    return made
  })

  return Effect.fnUntraced(function*(
    skill: Skill,
    files: Readonly<Record<string, Uint8Array>>,
    links: Readonly<Record<string, string>>
  ) {
    const inputs = yield* makeInputs(files, links)
    const { artifacts, onWritten } = ViewArtifacts.overlaid(
      () => new Map([...ViewArtifacts.placedBySkill(skill.files), ...inputs.placed]),
      limits
    )
    let pinned: ReadonlyArray<string> = []
    const signatures = () => skill.files.map(({ path }) => ViewFiles.signature(Path.join(skill.root, path)))
    return {
      root: skill.root,
      temp: "/tmp",
      overlay: { at: skill.root, inputs: inputs.home, lasting: inputs.lasting, onWritten },
      writable: [],
      digest: Effect.suspend(() => {
        pinned = signatures()
        return digestOf(skill)
      }),
      kept: Effect.sync(() => pinned.length === 0 || signatures().every((signature, i) => signature === pinned[i])),
      artifacts,
      abandoned: Effect.void
    }
  })
}
