import { assert, describe, it } from "@effect/vitest"
import * as Tools from "../../src/internal/dependenciesTools.ts"
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
    const files = Object.fromEntries(
      Array.from({ length: 7 }, (_, i) => [`f${i}.txt`, `-r f${i + 1}.txt\n`.repeat(100)])
    )
    assert.throws(() => fromFile("-r f0.txt", { ...files, "f7.txt": "a" }), /more than 64 times/)
    const allowed = fromFile("a @ https://x/y.whl", {}, { scripts: true })
    assert.deepStrictEqual(allowed.packages, ["a @ https://x/y.whl"])
    assert.throws(() => fromFile("a @ /etc/x", {}, { scripts: true }), /is a path/)
  })
})

describe("a requirement", () => {
  it("is written from what was read of it", () => {
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["A.b\t( >= 1.0 ,<2 )", "a-b>=1.0,<2"],
      [
        "a [ X , y ]==1.*; (python_version<'3.8'or extra == \"q\")",
        "a[X,y]==1.*; ( python_version < '3.8' or extra == \"q\" )"
      ],
      [
        "torch==2.1.0+cu118 ;sys_platform not in 'linux darwin'",
        "torch==2.1.0+cu118; sys_platform not in 'linux darwin'"
      ],
      ["a~=1!2.0rc1 --hash=SHA256:0A --hash=sha512:01", "a~=1!2.0rc1 --hash=sha256:0a --hash=sha512:01"],
      ["a # -r other \u2028 b", "a"]
    ]
    for (const [text, expected] of cases) assert.deepStrictEqual(fromFile(text).packages, [expected])
  })

  it("is refused when it is anything but names, versions and conditions in ASCII", () => {
    for (
      const end of ["\u0085", "\u2028", "\u2029", "\v", "\f", "\r", "\u001c", "\u001d", "\u001e", "\u00a0", "\u0000"]
    ) {
      for (
        const text of [
          `a==1${end}b@http://x/b.tar.gz`,
          `a; extra == 'x${end}--index-url=http://x'`,
          `a[x${end}y]`,
          `a${end}/srv`
        ]
      ) {
        assert.throws(() => fromFile(text), /has characters that are no printable/, JSON.stringify(text))
        assert.throws(() => fromFile(text, {}, { scripts: true }), /has characters that are no printable/)
        assert.throws(() =>
          inline("# /// script", `# dependencies = [${JSON.stringify(text).replace("\\v", "\\u000b")}]`, "# ///")
        )
      }
    }
    const wrong = [
      "a b",
      "a==1 b",
      "a==",
      "a[",
      "a[x",
      "a[/x]",
      "a[x]y",
      "a=1",
      "a==1;",
      "a; b == '1'",
      "a; extra == '1",
      "é",
      "a/b",
      "a\\b",
      "-a",
      "a; extra == 'x -r y'",
      "a; extra == 'x --pre'",
      "a==1;extra=='/srv'",
      "a (==1",
      "a; extra == 'a' ; -r x",
      "a,b",
      "a@",
      "a @ ../x"
    ]
    for (const text of wrong) {
      assert.throws(() => fromFile(text), Requirements.Refused, undefined, text)
      assert.throws(() => fromFile(text, {}, { scripts: true }), Requirements.Refused, undefined, text)
    }
    assert.throws(() => fromFile("a @ git+file:///srv/x", {}, { scripts: true }), /is a path/)
    // Neither takes long.
    assert.throws(() => fromFile(`a${" ".repeat(900_000)}b`), /not the name/)
    assert.deepStrictEqual(fromFile(`a${" #".repeat(400_000)}\r`).packages, ["a"])
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
    assert.throws(() => read({ dependencies: { a: "1" }, overrides: { b: "2" } }), /cannot have overrides/)
    assert.throws(
      () => read({ dependencies: { a: "1" } }, { packages: { "": {}, "node_modules/a": { resolved: "git+ssh://x" } } }),
      /package-lock.json: node_modules\/a does not/
    )
    assert.throws(() => read({ dependencies: { a: "1" }, workspaces: ["x"] }), /workspaces/)
    assert.throws(() => read([]), /not a JSON object/)
  })
})

describe("what npm gets", () => {
  const made = (value: unknown, packages?: unknown) =>
    PackageJson.read(
      "package.json",
      JSON.stringify(value),
      packages === undefined ? undefined : { name: "npm-shrinkwrap.json", text: JSON.stringify({ packages }) },
      never
    )

  it("is a package.json with nothing but names and versions", () => {
    const value = {
      name: "x",
      scripts: { install: "x" },
      workspaces: undefined,
      bundleDependencies: ["a"],
      devDependencies: { d: "file:/srv" },
      publishConfig: {},
      dependencies: { a: ">=1.0.0 <2 || ~3.x", "@s/b": "npm:@c/d@^2" },
      peerDependencies: { p: "*", q: "git+file:///x" },
      peerDependenciesMeta: { q: { optional: true } }
    }
    assert.deepStrictEqual(JSON.parse(made(value)?.manifest ?? ""), {
      dependencies: value.dependencies,
      peerDependencies: { p: "*" }
    })
    for (const name of ["../x", ".", "", "__proto__", "a b", "@a", "a/b", "node_modules/x", "é"]) {
      assert.throws(() => made(JSON.parse(`{"dependencies":{${JSON.stringify(name)}:"1"}}`)), /is not the name/)
    }
    for (
      const spec of [
        "npm:a@file:x",
        "npm:../x",
        "npm:a@npm:b@1",
        " ..",
        "x.tar.gz ",
        "x.TGZ",
        "1\n2",
        "~/x",
        "C:x",
        "\u00a01"
      ]
    ) {
      assert.throws(() => made({ dependencies: { a: spec } }), /does not come from a registry/, JSON.stringify(spec))
      assert.throws(
        () => made({ dependencies: { a: "1" }, peerDependencies: { b: spec } }),
        /b does not come from a registry/
      )
    }
  })

  it("is a lock file with nothing but names, versions, hashes and what they are for", () => {
    const entry = { version: "1.0.0", resolved: "https://r.example/npm/a.tgz", integrity: "sha512-AAAA==" }
    const packages = {
      "": { dependencies: { z: "file:/srv" } },
      "node_modules/a": {
        ...entry,
        bin: { a: "bin/a.js", b: "../../../b", c: "/c", "../d": "d" },
        os: ["linux", "!win32"],
        engines: { node: "*" },
        scripts: { install: "x" }
      }
    }
    const text = made({ dependencies: { a: "1" } }, packages)?.lock?.text ?? ""
    assert.deepStrictEqual(JSON.parse(text).packages, {
      "": { dependencies: { a: "1" } },
      "node_modules/a": { ...entry, os: ["linux", "!win32"], bin: { a: "bin/a.js" } }
    })
    const lost = made({ dependencies: { a: "1" }, optionalDependencies: { a: "1", gone: "1" } }, {
      "node_modules/a": { ...entry, optionalDependencies: { b: "1", c: "1", gone: "1" } },
      "node_modules/a/node_modules/b": { ...entry, optionalDependencies: { c: "1", b: "1" } },
      "node_modules/c": entry
    })
    assert.deepStrictEqual(JSON.parse(lost?.manifest ?? ""), {
      dependencies: { a: "1" },
      optionalDependencies: { a: "1" }
    })
    const edges = Object.values(JSON.parse(lost?.lock?.text ?? "").packages).map((one) =>
      Object(one).optionalDependencies
    )
    assert.deepStrictEqual(edges, [{ a: "1" }, { b: "1", c: "1" }, { c: "1", b: "1" }, undefined])
    const settled = (registry: string, resolved: string, more = {}) => {
      const made = { packages: { "node_modules/a": { ...entry, resolved } } }
      return JSON.parse(PackageJson.settle({ name: "lock", text: JSON.stringify(made) }, { registry, ...more }))
        .packages["node_modules/a"].resolved
    }
    const usual = "https://registry.npmjs.org/a/-/a-1.0.0.tgz"
    const open = "https://registry.npmjs.org/"
    assert.strictEqual(settled(open, usual), usual)
    assert.strictEqual(settled(open, "http://registry.yarnpkg.com/a/-/a-1.0.0.tgz#0"), usual)
    for (
      const [registry, resolved] of [[open, `${open}b/-/b-1.0.0.tgz`], [open, `${usual}?x`], [
        "https://r/x/",
        "https://r/y"
      ]] as const
    ) {
      assert.include([undefined, usual], settled(registry, resolved))
    }
    assert.isUndefined(settled("https://r.example/", usual))
    assert.isUndefined(settled(open, "https://s.example/a.tgz", { "@s:registry": "https://s.example/x/" }))
    for (
      const address of ["http://r.example/a", "https://r.example:1/a", "https://u:p@r.example/a", "http://127.0.0.1/x"]
    ) {
      assert.throws(() => settled("https://r.example/", address), /does not come from a registry/)
    }
  })

  it("is no lock file that takes long to look at", () => {
    const entry = { version: "1.0.0" }
    const nested = (depth: number) => Array.from({ length: depth }, () => "node_modules/a").join("/")
    const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`b${index}`, "1"]))
    const deepest = made({ dependencies: { a: "1" } }, { [nested(32)]: { ...entry, optionalDependencies: many } })
    assert.deepStrictEqual(JSON.parse(deepest?.lock?.text ?? "").packages[nested(32)], entry)
    for (const depth of [33, 4000]) {
      const packages = { [nested(depth)]: { ...entry, optionalDependencies: many } }
      assert.throws(() => made({ dependencies: { a: "1" } }, packages), /has packages in more than 32 others/)
    }
    const all = Object.fromEntries(Array.from({ length: 10_001 }, (_, index) => [`node_modules/a${index}`, entry]))
    assert.throws(() => made({ dependencies: { a: "1" } }, all), /has more than 10000 packages/)
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
    const env = Tools.environment({ ...kept, ...dropped, PATH: "/a" }, "/b:/a")
    for (const [name, value] of Object.entries(kept)) assert.strictEqual(env[name], value, name)
    for (const name of Object.keys(dropped)) assert.notProperty(env, name)
    assert.strictEqual(env["PATH"], "/b:/a")
  })
})
