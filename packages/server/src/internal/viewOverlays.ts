/**
 * Views that are overlays at the skill's own path: the inputs are put into a folder of their own, the executor and the
 * skill's folder do the rest.
 */
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
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

export const make = (homes: Homes, limits: ViewArtifacts.Limits) =>
  Effect.fnUntraced(function*(
    skill: Skill,
    files: Readonly<Record<string, Uint8Array>>,
    links: Readonly<Record<string, string>>
  ) {
    const paths = [...Object.keys(files), ...Object.keys(links)]
    const home = paths.length === 0 ? undefined : homes.next()
    let placed: ReadonlyMap<string, ViewFiles.Placed> = new Map()
    if (home !== undefined) {
      yield* Effect.addFinalizer(() => homes.removeLater(home))
      yield* homes.create(home, ViewInputs.foldersOf(paths))
      placed = yield* ViewInputs.place(home, files, links)
    }
    const { artifacts, onWritten } = ViewArtifacts.overlaid(
      () => new Map([...ViewArtifacts.placedBySkill(skill.files), ...placed]),
      limits
    )
    let pinned: ReadonlyArray<string> = []
    const signatures = () => skill.files.map(({ path }) => ViewFiles.signature(Path.join(skill.root, path)))
    return {
      root: skill.root,
      temp: "/tmp",
      overlay: { at: skill.root, inputs: home, onWritten },
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
