/** The URIs under which skills, their files and artifacts are resources. */
import type * as Artifacts from "@skillscale/tools/Artifacts"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"

export const skillTemplate = "skill://{topic}/{skill}/{+path}"
export const artifactTemplate = "artifact://{id}/{+path}"
export const document = "SKILL.md"

/** A place in a skill: `path` is empty for its root. */
export interface Place {
  readonly label: string
  readonly name: string
  readonly path: string
}

const isPlain = /^TOPIC_[A-Z0-9]+(?:_[A-Z0-9]+)*$/

/**
 * What stands for a topic: `data-processing` for `TOPIC_DATA_PROCESSING`. Another kind of topic keeps its name after `topic.`, which is
 * in no label of the first kind, so that no two topics have the same.
 */
export const labelOf = (topic: string): string =>
  isPlain.test(topic)
    ? topic.slice("TOPIC_".length).toLowerCase().replaceAll("_", "-")
    : `topic.${encodeURIComponent(topic)}`

/** A path as it stands in a URI. */
export const encodePath = (path: string): string => path.split("/").map(encodeURIComponent).join("/")

export const ofRoot = ({ name, topic }: Pick<SkillCatalog.Skill, "name" | "topic">): string =>
  `skill://${labelOf(topic)}/${encodeURIComponent(name)}`

export const ofFile = (skill: Pick<SkillCatalog.Skill, "name" | "topic">, path: string): string =>
  `${ofRoot(skill)}/${encodePath(path)}`

export const ofArtifact = ({ id, path }: Artifacts.Artifact): string => `artifact://${id}/${encodePath(path)}`

const partsOf = (uri: string, scheme: string): ReadonlyArray<string> | undefined => {
  let url: URL
  try {
    url = new URL(uri)
  } catch {
    return undefined
  }
  if (url.protocol !== scheme || url.host === "" || url.search !== "" || url.username !== "") return undefined
  try {
    // A slash or a dot that was escaped is not one between folders.
    const segments = url.pathname.split("/").slice(1).map(decodeURIComponent)
    const isSafe = segments.every((segment) => !/^\.{0,2}$|[/\0]/.test(segment))
    return isSafe || url.pathname === "" ? [url.host, ...segments] : undefined
  } catch {
    return undefined
  }
}

/** The place that a URI names, whether or not there is something. A slash at the end, as folders may have, is passed over. */
export const parseSkill = (uri: string): Place | undefined => {
  const [label, name, ...path] = partsOf(uri.endsWith("/") ? uri.slice(0, -1) : uri, "skill:") ?? []
  return label === undefined || name === undefined ? undefined : { label, name, path: path.join("/") }
}

/** The id of the artifact that a URI names. */
export const parseArtifact = (uri: string): string | undefined => partsOf(uri, "artifact:")?.[0]
