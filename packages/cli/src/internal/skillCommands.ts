import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Flags from "./flags.ts"

const directory = Flags.skillsDir("skills")

const load = Effect.promise(() => import("./skills.ts"))

const list = Command.make(
  "list",
  { directory, json: Flags.json },
  (input) => Effect.flatMap(load, (module) => module.list(input))
).pipe(Command.withDescription("List the skills of a folder"))

const show = Command.make(
  "show",
  { name: Flags.skill, directory, json: Flags.json },
  (input) => Effect.flatMap(load, (module) => module.show(input))
).pipe(Command.withDescription("Print a skill's SKILL.md, or with --json all that is known of it"))

const validate = Command.make("validate", {
  target: Argument.String("DIR").pipe(
    Argument.withDescription("A skill, or a folder with skills; by default that of --skills"),
    Argument.optional
  ),
  directory
}, (input) => Effect.flatMap(load, (module) => module.validate(input))).pipe(
  Command.withDescription("Check skills strictly against the Agent Skills format; exit with 2 when one is not valid"),
  Command.withShortDescription("Check skills strictly against the Agent Skills format")
)

const create = Command.make("new", {
  name: Argument.String("NAME").pipe(Argument.withDescription("Name of the new skill: a-z, 0-9 and single hyphens")),
  directory,
  category: Flag.String("category").pipe(
    Flag.withMetavar("NAME"),
    Flag.withDescription("Category of the skill, which names its topic (general)"),
    Flag.withDefault("general")
  ),
  description: Flag.String("description").pipe(
    Flag.withMetavar("TEXT"),
    Flag.withDescription("What the skill does and when to use it"),
    Flag.withDefault("Counts the lines and words of a text. Use when someone asks how long a text is.")
  )
}, (input) => Effect.flatMap(load, (module) => module.create(input))).pipe(
  Command.withDescription("Scaffold a skill that runs, and print its folder")
)

const prepare = Command.make("prepare", {
  names: Argument.String("NAME").pipe(
    Argument.withDescription("Skills to prepare; all of the folder when none is named"),
    Argument.variadic()
  ),
  directory
}, (input) => Effect.flatMap(load, (module) => module.prepare(input))).pipe(
  Command.withDescription(
    "Install what skills depend on ahead of their first call: packages of Python and of Node. Exit with 1 when that fails for one"
  ),
  Command.withShortDescription("Install what skills depend on ahead of time")
)

export const skills = Command.make("skills").pipe(
  Command.withDescription("Look at, check, prepare and scaffold skills"),
  Command.withSubcommands([list, show, validate, prepare, create])
)
