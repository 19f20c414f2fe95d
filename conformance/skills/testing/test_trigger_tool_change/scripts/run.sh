cd "$(cat folder)"
if [ -d testing/changing ]; then rm -r testing/changing; else
  mkdir -p testing/changing
  printf -- '---\nname: changing\ndescription: Comes and goes.\n---\n' > testing/changing/SKILL.md
fi
echo changed
