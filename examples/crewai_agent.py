"""A CrewAI agent that uses skills over MCP.

Start the stack (`npm start`), install `crewai` and `mcp`, have `skillscale` on the PATH, set `OPENAI_API_KEY` (and `OPENAI_BASE_URL` for
another server of the same API), then run `python examples/crewai_agent.py "Analyse this CSV: name,age;Ada,36"`.
"""

import os
import sys

from crewai import Agent
from crewai.mcp import MCPServerStdio

skills = MCPServerStdio(command="skillscale", args=["mcp"], env=dict(os.environ))
agent = Agent(role="Helper", goal="Help with skills", backstory="Has skills.", llm="openai/gpt-4.1", mcps=[skills])
result = agent.kickoff(sys.argv[1] if len(sys.argv) > 1 else "What can you do?")
print(result.raw)
