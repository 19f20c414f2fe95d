import { assert, describe, it } from "@effect/vitest"
import * as Build from "../../src/internal/dependenciesBuild.ts"
import * as PackageJson from "../../src/internal/dependenciesPackageJson.ts"
import * as Requirements from "../../src/internal/dependenciesRequirements.ts"
import * as Toml from "../../src/internal/dependenciesToml.ts"

const never = { scripts: false }
const inline = (...lines: ReadonlyArray<string>) => Requirements.inline(lines.join("\n"), "run.py", never)
const fromFile = (text: string, more: Readonly<Record<string, string>> = {}, options = never) =>
  Requirements.file("requirements.txt", (path) => ({ "requirements.txt": text, ...more })[path], options)

describe("inline metadata (PEP 723)", () => {
  it("reads packages and the version of Python, in a normal form", () => {
    assert.deepStrictEqual(
      inline(
        "#!/usr/bin/env python3",
        "# /// script",
        "# requires-python = \">= 3.9, <4\"",
        "# dependencies = [ # a comment",
        "#   'Requests >= 2.0 , < 3',",
        "#",
        "#   \"Foo.Bar_baz[x, y] ; python_version < '3.8'\",",
        "#   \"requests>=2.0,<3\",",
        "# ]",
        "# [tool.uv]",
        "# anything = goes",
        "# ///",
        "import requests"
      ),
      {
        python: ">=3.9,<4",
        packages: ["foo-bar-baz[x,y]; python_version < '3.8'", "requests>=2.0,<3"],
        constraints: [],
        hashes: false,
        prereleases: false
      }
    )
  })

  it("finds none where there is none", () => {
    assert.isUndefined(inline("print('# /// script')"))
    assert.isUndefined(inline("# /// other", "# dependencies = ['a']", "# ///"))
    assert.deepStrictEqual(inline("# /// script", "# ///")?.packages, [])
  })

  it("says what is wrong with a block", () => {
    const cases: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
      [["# /// script", "# dependencies = []"], /has no # \/\/\/ at its end/],
      [["# /// script", "# ///", "", "# /// script", "# ///"], /more than one block/],
      [["# /// script", "# dependencies = [", "# ///"], /line \d: expected a value/],
      [["# /// script", "# dependencies = 'six'", "# ///"], /dependencies is not a list/],
      [
        ["# /// script", "# dependencies = [1]", "# ///"],
        /dependencies has something that is not a string|not the name/
      ],
      [
        ["# /// script", "# dependencies = ['six --hash=sha256:00']", "# ///"],
        /an option, which is for requirements files/
      ],
      [["# /// script", "# requires-python = 3", "# ///"], /requires-python is not a string/]
    ]
    for (const [lines, says] of cases) assert.throws(() => inline(...lines), says)
  })

  it("reads the TOML that may stand there", () => {
    const read = Toml.top(
      "a = \"\\u00e9\\n\"\nb.c = '''x\ny'''\nd = [ [1, 2], { e = true, \"f g\" = 'h' } ]\nwhen = 1979-05-27T07:32:00Z\n[t]\n=="
    )
    assert.deepStrictEqual(Object.fromEntries(read), {
      a: "é\n",
      "b.c": "x\ny",
      d: [[1, 2], { e: true, "f g": "h" }],
      when: Number.NaN
    })
    for (const text of ["a", "a = ", "a = \"x", "a = [1 2]", "a = 1 b", "a = 1\na = 2", `a = ${"[".repeat(99)}`]) {
      assert.throws(() => Toml.top(text), Toml.Malformed)
    }
  })
})

describe("requirements.txt", () => {
  it("joins lines and files, and keeps hashes and constraints apart", () => {
    const hash = "--hash=sha256:0a"
    assert.deepStrictEqual(
      fromFile(`# first\n-r more/base.txt\n--constraint=pins.txt\nsix==1.16.0 \\\n  ${hash} # why\n`, {
        "more/base.txt": "-rown.txt\nB\n",
        "more/own.txt": "a>=1\n",
        "pins.txt": "idna<4\n"
      }),
      {
        python: "",
        packages: ["a>=1", "b", `six==1.16.0 ${hash}`],
        constraints: ["idna<4"],
        hashes: true,
        prereleases: false
      }
    )
  })

  it("refuses what is not a skill's to say", () => {
    const cases: ReadonlyArray<readonly [string, RegExp]> = [
      ["--index-url https://evil.example/simple", /--index-url is not for a skill to set.*PIP_INDEX_URL/],
      ["--extra-index-url=https://evil.example", /--extra-index-url is not/],
      ["-f /somewhere", /-f is not/],
      ["-e .", /-e is not/],
      ["-r ../../../etc/passwd", /etc\/passwd is not a file of the skill/],
      ["-r requirements.txt", /more than 8 deep/],
      ["./local", /not the name of a package/],
      ["git+https://x/y", /not the name of a package/],
      ["a @ https://x/y.whl", /does not come from the index.*SKILLSCALE_INSTALL_SCRIPTS/],
      ["a @ file:///etc/x", /is a path/],
      ["a==${UV_INDEX_PASSWORD}", /names a variable/],
      ["a --config-settings=x=y", /the option --config-settings/],
      [Array.from({ length: 501 }, (_, i) => `p${i}`).join("\n"), /more than 500 packages/]
    ]
    for (const [text, says] of cases) assert.throws(() => fromFile(text), says)
    const allowed = fromFile("a @ https://x/y.whl", {}, { scripts: true })
    assert.deepStrictEqual(allowed.packages, ["a @ https://x/y.whl"])
    assert.throws(() => fromFile("a @ /etc/x", {}, { scripts: true }), /is a path/)
  })
})

describe("requires-python", () => {
  it("compares versions as PEP 440 does", () => {
    const cases: ReadonlyArray<readonly [string, string, boolean]> = [
      ["", "3.11.7", true],
      [">=3.11", "3.11.0", true],
      [">=3.11,<3.13", "3.13.1", false],
      ["==3.11.*", "3.11.7", true],
      ["!=3.11.*", "3.11.7", false],
      ["==3.11", "3.11.0", true],
      ["==3.11", "3.11.7", false],
      ["~=3.10", "3.12.1", true],
      ["~=3.10.2", "3.11.0", false],
      [">3.9", "3.10.0", true],
      ["<=3.9", "3.10.0", false],
      [">=3.11", "3.12.0rc1", true]
    ]
    for (const [specifier, version, expected] of cases) {
      assert.strictEqual(Requirements.admits(specifier, version), expected, `${specifier} ${version}`)
    }
    for (const bad of ["3.11", ">=x", ">=3.*", "latest"]) {
      assert.throws(() => Requirements.admits(bad, "3.11.0"), /cannot be read/)
    }
  })
})

describe("package.json", () => {
  const read = (value: unknown, lock?: unknown, options = never) =>
    PackageJson.read(
      "package.json",
      JSON.stringify(value),
      lock === undefined ? undefined : { name: "package-lock.json", text: JSON.stringify(lock) },
      options
    )

  it("asks for nothing without dependencies", () => {
    assert.isUndefined(read({ type: "module", devDependencies: { a: "1" } }))
    assert.isDefined(read({ dependencies: { a: "^1.0.0", b: "npm:@c/d@2", e: "latest", f: "1 || 2" } }))
  })

  it("refuses what does not come from a registry, unless the operator lets it", () => {
    for (const spec of ["github:a/b", "a/b", "git+ssh://x", "file:../x", "../x", "https://x/y.tgz", "link:x", 3]) {
      assert.throws(() => read({ dependencies: { a: spec } }), /a does not come from a registry/)
      assert.isDefined(read({ dependencies: { a: spec } }, undefined, { scripts: true }))
    }
    assert.throws(() => read({ dependencies: { a: "1" }, overrides: { b: { c: "file:x" } } }), /an override/)
    assert.throws(
      () => read({ dependencies: { a: "1" } }, { packages: { "": {}, "node_modules/a": { resolved: "git+ssh://x" } } }),
      /package-lock.json: node_modules\/a does not/
    )
    assert.throws(() => read({ dependencies: { a: "1" }, workspaces: ["x"] }), /workspaces/)
    assert.throws(() => read([]), /not a JSON object/)
  })
})

describe("the environment of a build", () => {
  it("has the operator's settings for indexes and proxies, and nothing else", () => {
    const kept = {
      HOME: "/home/x",
      https_proxy: "http://p",
      PIP_INDEX_URL: "https://i",
      UV_INDEX_PRIVATE_PASSWORD: "p",
      npm_config_registry: "https://r",
      "npm_config_//r/:_authToken": "t",
      NODE_EXTRA_CA_CERTS: "/ca"
    }
    const dropped = {
      SKILLSCALE_SECRET_API_KEY: "hush",
      AWS_SECRET_ACCESS_KEY: "hush",
      PIP_TARGET: "/elsewhere",
      PIP_USER: "1",
      NODE_OPTIONS: "--require x",
      PYTHONPATH: "/evil",
      LD_PRELOAD: "x",
      npm_config_prefix: "/elsewhere",
      npm_config_ignore_scripts: "false",
      UV_PYTHON: "/evil"
    }
    const env = Build.environment({ ...kept, ...dropped, PATH: "/a" }, "/b:/a")
    for (const [name, value] of Object.entries(kept)) assert.strictEqual(env[name], value, name)
    for (const name of Object.keys(dropped)) assert.notProperty(env, name)
    assert.strictEqual(env["PATH"], "/b:/a")
  })
})
