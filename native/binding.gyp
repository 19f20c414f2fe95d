{
  "variables": { "sanitize%": 0 },
  "target_defaults": {
    "cflags_cc": ["-std=c++20", "-Wall", "-Wextra", "-fvisibility=hidden", "-fstack-protector-strong", "-fno-exceptions"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-O3", "-fexceptions"],
    "cflags!": ["-O3"],
    "conditions": [
      ["sanitize==1", {
        "cflags_cc": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
        "ldflags": ["-fsanitize=address,undefined"]
      }, {
        "cflags_cc": ["-O2"],
        "ldflags": ["-Wl,-z,relro,-z,now"]
      }]
    ]
  },
  "targets": [
    {
      "target_name": "skillscale",
      "sources": [
        "src/module.cc", "src/arguments.cc", "src/event_values.cc", "src/supervisor.cc", "src/run_control.cc",
        "src/run.cc", "src/output.cc", "src/reaper_pool.cc", "src/reaper_process.cc", "src/control_group.cc", "src/poller.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "_GNU_SOURCE"],
      "dependencies": ["skillscale-reaper"]
    },
    {
      "target_name": "skillscale-zygote",
      "sources": ["src/zygote.cc", "src/own_memory.cc", "src/keeper.cc", "src/entry.cc", "src/packet.cc", "src/landlock.cc", "src/system_calls.cc"],
      "defines": ["_GNU_SOURCE"],
      "libraries": ["-ldl"],
      "cflags_cc": ["-fno-rtti"],
      # Every run is a copy of the program that it is loaded into: it brings no other library along.
      "ldflags": ["-Wl,--as-needed", "-static-libstdc++", "-static-libgcc"],
      # In a cell it is loaded into a program of the machine, where AddressSanitizer does not come first.
      "conditions": [["sanitize==1", {
        "cflags_cc!": ["-fsanitize=address,undefined"],
        "cflags_cc": ["-fsanitize=undefined"],
        "ldflags!": ["-fsanitize=address,undefined"],
        "ldflags": ["-fsanitize=undefined"]
      }]]
    },
    {
      "target_name": "skillscale-prestart",
      "sources": ["src/prestart.cc", "src/keeper.cc", "src/entry.cc", "src/packet.cc", "src/landlock.cc", "src/system_calls.cc"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "_GNU_SOURCE"],
      # In a cell it is loaded into a program of the machine, where AddressSanitizer does not come first.
      "conditions": [["sanitize==1", {
        "cflags_cc!": ["-fsanitize=address,undefined"],
        "cflags_cc": ["-fsanitize=undefined"],
        "ldflags!": ["-fsanitize=address,undefined"],
        "ldflags": ["-fsanitize=undefined"]
      }]]
    },
    {
      "target_name": "skillscale-reaper",
      "type": "executable",
      "sources": [
        "src/reaper.cc", "src/reaper_limits.cc", "src/reaper_spare.cc", "src/process_tree.cc", "src/cpu_ledger.cc", "src/spawn.cc", "src/entry.cc", "src/packet.cc", "src/fork_server.cc",
        "src/cell.cc", "src/view.cc", "src/traces.cc", "src/network_traces.cc", "src/rules.cc", "src/landlock.cc", "src/system_calls.cc", "src/probe.cc"
      ],
      "defines": ["_GNU_SOURCE"],
      "cflags_cc": ["-fno-rtti", "-fPIE"],
      "ldflags": ["-pie", "-Wl,--as-needed"],
      "ldflags!": ["-rdynamic"],
      "conditions": [["sanitize==1", {
        "sources": ["test/sanitizer_report.cc"],
        "defines": ["SKILLSCALE_REPORTS=\"<(module_root_dir)/report.reapers\""]
      }]]
    }
  ],
  "conditions": [["sanitize==1", {
    "targets": [{
      "target_name": "skillscale-zygote-asan",
      "sources": ["src/zygote.cc", "src/own_memory.cc", "src/keeper.cc", "src/entry.cc", "src/packet.cc", "src/landlock.cc", "src/system_calls.cc"],
      "defines": ["_GNU_SOURCE"],
      "cflags_cc": ["-fno-rtti"]
    }]
  }]]
}
